"""Which files of a hub repository are fetched, and what is done to them before anything opens them.

    chosen = wanted(names)       # of all that a repository holds, what its loaders will open
    check_sums(folder)           # each big file against the SHA-256 by which the hub names it
    unpickle(uri, folder)        # tensors that came as a pickle are rewritten as safetensors

A repository often holds the same weights many times: for other frameworks, in other precisions, as one
file for other programs. One copy is fetched, in half precision where a pipeline of diffusers offers it.
Older repositories (Zeroscope, BLIP) have their tensors as pickles only. Those are opened once, right after
the download, by torch's restricted unpickler, which builds tensors and runs nothing; what is kept and
loaded from then on is safetensors.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from .errors import WeightsError

PIPELINE = "model_index.json"
PICKLED = re.compile(r"(?P<stem>(?:diffusion_)?pytorch_model)(?P<rest>[\w.-]*)\.bin$")
_FOREIGN = (
    "*.msgpack", "*.h5", "*.ot", "*.onnx", "*.onnx_data", "*.mlmodel", "*.mlpackage/*", "*.tflite", "*.pb", "*.pbtxt",
    "openvino_*", "onnx/*", "*.ckpt", "*.mp4", "*.gif", "*.png", "*.jpg", "*.jpeg", "*.webp", "*.wav", "*.mp3", ".git*",
    "*training_args.bin", "*optimizer.bin", "*scheduler.bin", "runs/*", "*.tfevents*",
)  # fmt: skip
_WEIGHTS = (".safetensors", ".bin")
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|non_ema|ema)(?=[.-])")


def wanted(names: Iterable[str], refused: Iterable[str] = ()) -> list[str]:
    """The files to fetch, of all `names` of a repository; none that ends in a suffix of `refused`."""
    suffixes = tuple(refused)
    keep = [n for n in names if not n.lower().endswith(suffixes) and not any(fnmatch(n, p) for p in _FOREIGN)]
    pipeline = PIPELINE in keep
    if pipeline:  # what lies beside the index as one file is for other programs
        keep = [n for n in keep if "/" in n or not n.endswith(_WEIGHTS)]
    folders: dict[str, list[str]] = {}
    for name in keep:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(name)
    return sorted(n for found in folders.values() for n in _of_folder(found, half=pipeline))


def _of_folder(names: list[str], half: bool) -> list[str]:
    """One copy of a folder's weights: safetensors before pickles, half precision before full where `half`."""
    weights = [n for n in names if n.endswith(_WEIGHTS) or n.endswith((".safetensors.index.json", ".bin.index.json"))]
    rest = [n for n in names if n not in weights]
    safe = [n for n in weights if ".safetensors" in PurePosixPath(n).name]
    pickled = [n for n in weights if n not in safe and PICKLED.match(PurePosixPath(n).name.removesuffix(".index.json"))]
    others = [] if safe else [n for n in weights if n not in pickled]
    kind = safe or pickled
    plain = [n for n in kind if not _VARIANT.search(PurePosixPath(n).name)]
    short = [n for n in kind if re.search(r"\.fp16[.-]", PurePosixPath(n).name)]
    return rest + others + (short if half and short else plain or kind)


def variant(folder: Path) -> str | None:
    """`fp16` when a pipeline's folder holds such files, as its loader must be told."""
    return "fp16" if any(folder.rglob("*.fp16*.safetensors")) else None


def check_sums(uri: str, path: Path) -> None:
    """WeightsError for a file that is not what the hub says it is; it is removed, so that it is fetched anew."""
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        blob = file.resolve()
        if not file.is_file() or not re.fullmatch(r"[0-9a-f]{64}", blob.name):
            continue
        with blob.open("rb") as data:
            found = hashlib.file_digest(data, "sha256").hexdigest()
        if found != blob.name:
            blob.unlink()
            file.unlink(missing_ok=True)
            raise WeightsError(
                f"'{file.name}' of {uri} has the SHA-256 {found[:12]}... and {blob.name[:12]}... is expected; "
                "it was removed. Fetch it again."
            )


def unpickle(uri: str, folder: Path) -> None:
    """Rewrites `pytorch_model.bin` and its like as safetensors; the pickles are removed."""
    for index in sorted(folder.rglob("*.bin.index.json")):
        target = index.with_name(_safe_name(index.name.removesuffix(".index.json")) + ".index.json")
        table = json.loads(index.read_text(encoding="utf-8"))
        table["weight_map"] = {k: _safe_name(v) for k, v in table["weight_map"].items()}
        target.write_text(json.dumps(table), encoding="utf-8")
    for file in sorted(folder.rglob("*.bin")):
        if not PICKLED.match(file.name):
            continue
        target = file.with_name(_safe_name(file.name))
        if not target.exists():
            _rewrite(uri, file, target)
        file.resolve().unlink(missing_ok=True)
        file.unlink(missing_ok=True)


def rewritten_from(path: str) -> str | None:
    """`net.pth` for `net.pth.safetensors`, which is how a single pickle is asked for; else None."""
    match = re.fullmatch(r"(.+\.(?:pth|pt|ckpt|bin))\.safetensors", path)
    return match[1] if match else None


def rewrite(uri: str, file: Path) -> Path:
    """One pickle as safetensors beside it, under its name and `.safetensors`; the pickle is removed."""
    target = file.with_name(f"{file.name}.safetensors")
    _rewrite(uri, file, target)
    file.resolve().unlink(missing_ok=True)
    file.unlink(missing_ok=True)
    return target


def _safe_name(name: str) -> str:
    """`pytorch_model-00001-of-00002.bin` is `model-00001-of-00002.safetensors`, as its loader expects."""
    match = PICKLED.match(name)
    if match is None:
        return name
    stem = "diffusion_pytorch_model" if match["stem"].startswith("diffusion") else "model"
    return f"{stem}{match['rest']}.safetensors"


def _rewrite(uri: str, file: Path, target: Path) -> None:
    """One file. Each tensor gets memory of its own, as safetensors wants it, in the order of the names."""
    import pickle

    import torch
    from safetensors.torch import save_file

    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as e:
        raise WeightsError(
            f"'{file.name}' of {uri} is no plain file of tensors and can run code when it is opened; it is refused."
        ) from e
    state = state.get("state_dict", state) if isinstance(state, dict) else {}
    tensors = {k: v.detach().clone().contiguous() for k, v in state.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"'{file.name}' of {uri} holds no tensors; the weights URI is wrong.")
    part = target.with_name(f".{target.name}.part")
    save_file(tensors, part, metadata={"format": "pt"})
    part.replace(target)
