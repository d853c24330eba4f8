"""The shape of the program: imports point one way, and importing costs nothing."""

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A package may import itself and what stands to its right.
ORDER = ["agent", "evaluation", "training", "graphs", "controller", "mmllm", "tools", "prompts", "pocket", "core"]
APART = {("tools", "mmllm"), ("mmllm", "tools"), ("mmllm", "prompts")}
HEAVY = {"torch", "transformers", "langgraph", "langchain_core", "PIL", "av", "numpy", "pydantic", "onnxruntime", "cv2"}


def imports_of(file):
    package = file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level]
            yield (*base, *(node.module or "").split("."))[0] if base else (node.module or "").split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").startswith("anyloom"):
                yield "ABSOLUTE"
        elif isinstance(node, ast.Import) and any(a.name.startswith("anyloom") for a in node.names):
            yield "ABSOLUTE"


def sources():
    return [f for p in ORDER for f in sorted((ROOT / p).rglob("*.py"))]


@pytest.mark.parametrize("file", sources(), ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_one_way(file):
    here = file.relative_to(ROOT).parts[0]
    for there in set(imports_of(file)):
        assert there != "ABSOLUTE", "inside the package, imports are relative"
        if there in ORDER and there != here:
            assert ORDER.index(there) > ORDER.index(here), f"{here} imports {there}"
            assert (here, there) not in APART, f"{here} and {there} do not know each other"


@pytest.mark.parametrize("file", sources(), ids=lambda f: str(f.relative_to(ROOT)))
def test_every_file_says_what_it_is(file):
    assert ast.get_docstring(ast.parse(file.read_text())), "a file opens with a docstring"


def test_importing_the_agent_is_light():
    code = "import sys, anyloom.agent, anyloom.agent.cli; print('\\n'.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert not HEAVY & {m.split(".")[0] for m in out.stdout.split()}


def test_help_takes_little_work():
    """Processor time, not the clock: the machine may be busy."""

    def spent():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    costs = []
    for _ in range(5):
        before = spent()
        subprocess.run([sys.executable, "-m", "anyloom.agent", "--help"], capture_output=True, check=True, cwd="/")
        costs.append(spent() - before)
    assert min(costs) < 0.5
