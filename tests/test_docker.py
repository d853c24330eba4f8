"""docker/: the files fit their specifications and this repository, and the services' commands work, without Docker."""

import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest
import yaml
from services import COMPOSE, ROOT, Services
from test_cli import MODEL

from anyloom.agent.cli import cli
from anyloom.agent.ray_start import ENVIRONMENT

DOCKER = ROOT / "docker"
FILES = ("compose.yaml", "compose.gpu.yaml")
OURS = ("head", "worker", "api", "web")


def compose(name="compose.yaml"):
    return yaml.safe_load((DOCKER / name).read_text())


def fits_the_specification(file):
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("name", FILES)
def test_compose_files_fit_the_specification(name):
    done = fits_the_specification(DOCKER / name)
    assert done.returncode == 0, done.stdout


def test_the_check_would_find_a_mistake(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("healthcheck:", "healthchek:", 1))
    assert "healthchek" in fits_the_specification(wrong).stdout


def test_what_compose_names_is_there():
    file = compose()
    for name, service in file["services"].items():
        assert set(service.get("depends_on", {})) <= set(file["services"]), name
        assert set(service.get("secrets", [])) <= set(file["secrets"]), name
        assert set(service["networks"]) <= set(file["networks"]), name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in file["volumes"], name
        assert service["healthcheck"]["test"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} is published to everybody"
    assert set(compose("compose.gpu.yaml")["services"]) <= set(file["services"])


@pytest.mark.parametrize("name", OURS)
def test_commands_and_checks_are_anyloom_s(name):
    service = compose()["services"][name]
    lines = [service["command"]]
    if service["healthcheck"]["test"][1] == "anyloom":
        lines.append(service["healthcheck"]["test"][2:])
    for words in lines:
        command = cli.commands[words[0]]
        command.make_context(words[0], [str(w) for w in words[1:]])  # raises for what is no option


def test_the_images_hold_every_package_and_run_as_nobody():
    text = (DOCKER / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", text, flags=re.M)
    final = {re.search(r"AS (\S+)", s).group(1): s for s in stages[1:]}
    for target in ("cpu", "cuda"):
        assert "USER anyloom" in final[target]
        assert final[target].startswith("base AS")
    copied = {m.split()[0] for m in re.findall(r"^COPY (?!--)(.*)$", text, re.M)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {p.split(".")[1] for p in project["tool"]["setuptools"]["packages"]}
    assert packages <= copied
    for name in copied:
        assert (ROOT / name).exists(), name
    extras = set(re.search(r'built-cpu.*?"\.\[(.*?)\]"', text, re.S).group(1).split(","))
    assert extras <= set(project["project"]["optional-dependencies"])
    used = {s["build"]["target"] for f in FILES for s in compose(f)["services"].values() if "build" in s}
    assert used == {"cpu", "cuda"}


def test_the_kuberay_cluster_is_of_the_same_images_and_version():
    made = yaml.safe_load((DOCKER / "kuberay.yaml").read_text())
    assert (made["apiVersion"], made["kind"]) == ("ray.io/v1", "RayCluster")
    assert f"ray=={made['spec']['rayVersion']}\n" in (ROOT / "constraints.txt").read_text()
    groups = [made["spec"]["headGroupSpec"], *made["spec"]["workerGroupSpecs"]]
    images = {s["image"] for f in FILES for s in compose(f)["services"].values() if "image" in s}
    for group in groups:
        assert all(isinstance(v, str) for v in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["image"] in images
            mounted = {m["name"] for m in container.get("volumeMounts", [])}
            assert mounted <= {v["name"] for v in pod.get("volumes", [])}
    for group in made["spec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_kuberay_head_s_client_proxy_forks_without_grpc_s_handlers():
    made = yaml.safe_load((DOCKER / "kuberay.yaml").read_text())
    (head,) = made["spec"]["headGroupSpec"]["template"]["spec"]["containers"]
    name = "GRPC_ENABLE_FORK_SUPPORT"
    assert {"name": name, "value": ENVIRONMENT[name]} in head["env"]


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("services")
    (folder / "scripted.py").write_text(MODEL)
    (folder / "token.txt").write_text("a-long-token\n")
    made = Services(folder, ANYLOOM_CONTROLLER="python:scripted:grey")
    made.environment["PYTHONPATH"] += f":{folder}"
    try:
        for name in ("redis", "head", "worker", "api"):  # the order of depends_on
            made.start(name)
            made.healthy(name)
        yield made
    finally:
        left = made.stop()
    assert not left, "what the services started ended with them"


def asked(services):
    """A request through the API; its tasks ran on the worker."""
    from PIL import Image

    picture = services.folder / "cat.png"
    Image.new("RGB", (40, 20), (200, 30, 30)).save(picture)
    address = f"http://127.0.0.1:{services.ports['api']}"
    with httpx.Client(base_url=address, headers={"Authorization": "Bearer a-long-token"}, timeout=120) as client:
        with picture.open("rb") as file:
            begun = client.post(
                "/v1/requests", data={"text": "grey", "fresh": "true"}, files={"files": ("cat.png", file)}
            )
        assert begun.status_code == 202, begun.text
        for _ in range(1200):
            state = client.get(f"/v1/requests/{begun.json()['id']}").json()
            if state["state"] not in ("queued", "running"):
                return state
            time.sleep(0.2)
    raise AssertionError(f"not answered: {state}")


@pytest.mark.timeout(900)
def test_the_services_answer_a_request_together(services):
    state = asked(services)
    assert state["state"] == "done", state
    (raylet,) = services.processes("raylet.*127.0.0.3")
    titles = [title for _, title in services.children(raylet)]
    assert any(re.search(r"ray::(Host|host\|pillow-classic)", t) for t in titles), titles  # it ran there


@pytest.mark.timeout(900)
def test_the_head_s_client_proxy_forks_without_grpc_s_handlers(services):
    (proxy,) = services.processes("ray.util.client.server .*--mode=proxy")
    assert b"GRPC_ENABLE_FORK_SUPPORT=0" in Path(f"/proc/{proxy}/environ").read_bytes().split(b"\0")


@pytest.mark.timeout(900)
def test_a_worker_whose_ray_dies_comes_back_by_itself(services):
    import os
    import signal

    services.healthy("worker")
    before = services.processes("raylet.*127.0.0.3")
    assert before, services.log("worker")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    for _ in range(300):
        if "starting it again" in services.log("worker"):
            break
        time.sleep(0.2)
    services.healthy("worker")
    assert not set(before) & set(services.processes("raylet.*127.0.0.3"))
    assert asked(services)["state"] == "done"
