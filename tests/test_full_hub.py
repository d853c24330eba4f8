"""`anyloom doctor --profile full --download` against a stand-in hub, and what is fetched of a repository."""

import json
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import pytest

pytest.importorskip("diffusers", reason="pip install 'anyloom[full]'")

import torch
from hub_server import COMMIT, HubServer
from tiny_models import BUILDERS

from anyloom.core.errors import WeightsError
from anyloom.core.hub_files import unpickle, wanted
from anyloom.core.settings import load_settings
from anyloom.core.weight_sources import REFUSED
from anyloom.core.weights import Weights
from anyloom.tools.registry import Registry

ZEROSCOPE, VIT, SVD = (
    "cerspense/zeroscope_v2_576w",
    "google/vit-base-patch16-224",
    "stabilityai/stable-video-diffusion-img2vid-xt",
)
SMALL = {"text-to-video": {"width": 32, "height": 32, "frames": 3, "steps": 2}}


def pickled(folder):
    """Turns a repository into one of the older kind: tensors as pickles, no safetensors."""
    from safetensors.torch import load_file

    for file in folder.rglob("*.safetensors"):
        stem = "diffusion_pytorch_model" if file.stem.startswith("diffusion") else "pytorch_model"
        torch.save(load_file(file), file.with_name(f"{stem}.bin"))
        file.unlink()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    torch.manual_seed(7)
    made = {}
    for name in (ZEROSCOPE, VIT):
        made[name] = tmp_path_factory.mktemp("repositories") / "repository"
        made[name].mkdir()
        BUILDERS[name](made[name])
    pickled(made[ZEROSCOPE])
    (made[ZEROSCOPE] / "zs2_576w.pth").write_bytes(b"PK for other programs")
    (made[VIT] / "tf_model.h5").write_bytes(b"for other programs")
    made[SVD] = made[VIT]
    return made


@pytest.fixture
def hub(repositories):
    with HubServer(repositories) as server:
        yield server


@pytest.fixture
def doctor(hub, tmp_path):
    """Runs the command as a user does, in a process whose hub is the stand-in."""

    def run(*only, token=None, experts=SMALL, begin=subprocess.run, **how):
        command = [
            sys.executable,
            "-m",
            "anyloom.agent",
            "doctor",
            "--profile",
            "full",
            "--download",
            "--device",
            "cpu",
        ]
        for name in only:
            command += ["--only", name]
        own = {"ANYLOOM_DATA": str(tmp_path / "data"), "ANYLOOM_CACHE": str(tmp_path / "cache")}
        own |= {"ANYLOOM_EXPERTS": json.dumps(experts)} | ({"HF_TOKEN": token} if token else {})
        environment = hub.environment(tmp_path / "hf", **own)
        how = how or {"capture_output": True, "timeout": 240}
        return begin(command, text=True, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, **how)

    return run


def test_it_says_what_comes_fetches_runs_and_prints_a_table(doctor, hub, tmp_path):
    ran = doctor("zeroscope-v2-576w", "vit-base")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    before, _, after = ran.stdout.partition("✓")
    assert "licence  zeroscope-v2-576w: CC-BY-NC-4.0: no commercial use" in before
    assert "vit-base" not in before
    assert "2 experts, 7.2 GB to fetch" in before
    assert "video/mp4" in after
    assert COMMIT[:12] in after
    assert "2 ran, 0 skipped, 0 failed." in after
    fetched = {path.rpartition("/")[2] for method, path, _ in hub.asked if method == "GET"}
    assert "diffusion_pytorch_model.bin" in fetched
    assert not {"zs2_576w.pth", "tf_model.h5"} & fetched
    kept = [f.name for f in (tmp_path / "cache").rglob("*") if f.is_file()]
    assert not [n for n in kept if n.endswith((".bin", ".pth"))]
    assert kept.count("diffusion_pytorch_model.safetensors") == 2
    asked = len(hub.asked)
    assert doctor("vit-base").returncode == 0
    assert len(hub.asked) == asked, "what is here is not asked for again"
    assert not (tmp_path / "data" / "revisions.toml").exists(), "both are pinned"


def test_what_a_branch_was_is_written_down_so_that_it_can_be_pinned(doctor, hub, tmp_path):
    ran = doctor("vit-base", experts={"vit-base": {"revision": "main"}})
    assert "1 repository is taken at a branch, which moves" in ran.stdout, ran.stdout + ran.stderr
    file = tmp_path / "data" / "revisions.toml"
    assert str(file) in ran.stdout
    assert tomllib.loads(file.read_text())["experts"] == {"vit-base": {"revision": COMMIT}}
    settings = load_settings({"profile": "full", "device": "cpu"}, {"ANYLOOM_CONFIG": str(file)})
    assert Registry(settings).expert("vit-base").card.weights == (f"hf:{VIT}@{COMMIT}",)
    file.write_text("what = [")
    spoiled = doctor("vit-base", experts={"vit-base": {"revision": "main"}})
    assert spoiled.returncode == 2
    assert "is not as the doctor wrote it; remove it" in spoiled.stderr
    assert not spoiled.stdout, "it is said before anything is fetched or run"


def test_a_download_that_breaks_off_is_resumed(hub, tmp_path):
    """The hub's own library keeps what came in pieces of ten megabytes."""
    from safetensors.torch import save_file

    hub.repositories["tests/big"] = tmp_path / "big"
    (tmp_path / "big").mkdir()
    save_file({"weight": torch.rand(6_000_000)}, tmp_path / "big" / "model.safetensors")
    hub.cut["model.safetensors"] = 11 << 20
    uri = "hf:tests/big@main"
    command = [sys.executable, "-m", "anyloom.agent", "weights", "fetch", uri, "--cache", str(tmp_path / "cache")]
    environment = hub.environment(tmp_path / "hf", ANYLOOM_DATA=str(tmp_path / "data"))
    for _ in range(2):
        ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, cwd=tmp_path)
        if ran.returncode == 0:
            break
    assert ran.returncode == 0, ran.stderr
    ranges = [r for method, path, r in hub.asked if method == "GET" and path.endswith("model.safetensors")]
    assert ranges == [None, f"bytes={10 << 20}-"] or int(ranges[1].removeprefix("bytes=").partition("-")[0]) > 0
    assert Weights(tmp_path / "cache", offline=True).verify(uri)


def test_the_doctor_goes_on_after_a_broken_connection(doctor, hub):
    hub.cut["model.safetensors"] = 1000
    first = doctor("vit-base")
    if first.returncode:  # the hub's library did not go on by itself
        assert "0 ran, 0 skipped, 1 failed." in first.stdout
    assert "Traceback" not in first.stdout + first.stderr
    ran = doctor("vit-base") if first.returncode else first
    assert "1 ran, 0 skipped, 0 failed." in ran.stdout, ran.stdout + ran.stderr
    assert len([p for method, p, _ in hub.asked if method == "GET" and p.endswith("model.safetensors")]) > 1


def test_ctrl_c_during_a_download_ends_the_doctor_and_the_next_one_fetches_it(doctor, hub, tmp_path):
    hub.held.add("model.safetensors")
    began = doctor("vit-base", begin=subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    until = time.monotonic() + 120
    while not any(m == "GET" and p.endswith("model.safetensors") for m, p, _ in hub.asked):
        assert time.monotonic() < until, began.kill()
        time.sleep(0.05)
    time.sleep(0.5)
    began.send_signal(signal.SIGINT)
    said, _ = began.communicate(timeout=60)
    assert began.returncode == 130, said
    assert "Stopped; what was fetched is kept" in said
    assert "Traceback" not in said
    hub.held.clear()
    hub.go_on.set()
    assert "1 ran, 0 skipped, 0 failed." in doctor("vit-base").stdout


def test_a_wrong_checksum_is_refused(doctor, hub, tmp_path):
    hub.spoiled.add("model.safetensors")
    ran = doctor("vit-base")
    assert ran.returncode == 1
    assert "model.safetensors' of google/vit-base-patch16-224 has the SHA-256" in ran.stdout
    assert "0 ran, 0 skipped, 1 failed." in ran.stdout
    hub.spoiled.clear()
    assert doctor("vit-base").returncode == 0, "the spoiled file was removed, so it is fetched anew"


def test_gated_weights_want_a_token(doctor, hub):
    hub.gated.add(SVD)
    ran = doctor("stable-video-diffusion")
    assert (
        "skipped  stable-video-diffusion: gated (Stability AI non-commercial community): accept the terms at"
        in ran.stdout
    )
    assert "0 ran, 1 skipped, 0 failed." in ran.stdout
    assert not any("resolve" in path for _, path, _ in hub.asked)
    wrong = doctor("stable-video-diffusion", token="hf_somebody_else")
    assert wrong.returncode == 1
    assert "cannot be fetched from the hub (GatedRepoError" in wrong.stdout
    assert "hf_somebody_else" not in wrong.stdout + wrong.stderr


def test_an_unknown_name_is_refused(doctor):
    ran = doctor("zeroscop")
    assert ran.returncode == 2
    assert "no expert or tool 'zeroscop'" in ran.stderr


def test_one_copy_of_the_weights_is_wanted():
    names = [
        "model_index.json", "README.md", "v1-5-pruned.safetensors", "v1-5-pruned.ckpt", "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.safetensors", "safety_checker/pytorch_model.bin", "tokenizer/merges.txt",
    ]  # fmt: skip
    assert wanted(names, REFUSED - {""}) == [
        "README.md", "model_index.json", "safety_checker/pytorch_model.bin", "tokenizer/merges.txt", "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    plain = ["config.json", "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "training_args.bin"]
    assert wanted(plain) == ["config.json", "model.safetensors"]


class Bomb:
    """What a hostile pickle holds."""

    def __reduce__(self):
        return (print, ("this must not be printed",))


def test_a_pickle_with_code_in_it_is_refused_and_nothing_of_it_runs(tmp_path, capsys):
    torch.save({"weight": torch.zeros(2), "bomb": Bomb()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"'pytorch_model\.bin' of some/where .* can run code .* refused"):
        unpickle("some/where", tmp_path)
    assert not capsys.readouterr().out
    assert not list(tmp_path.glob("*.safetensors"))


def test_pickles_in_pieces_become_safetensors_in_pieces(tmp_path):
    from safetensors.torch import load_file

    shared = torch.ones(3)
    torch.save({"a": shared, "b": shared}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({"c": torch.ones(2)}, tmp_path / "pytorch_model-00002-of-00002.bin")
    where = {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00001-of-00002.bin"}
    where["c"] = "pytorch_model-00002-of-00002.bin"
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": where}))
    unpickle("some/where", tmp_path)
    table = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(table.values()) == {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
    assert load_file(tmp_path / table["b"])["b"].tolist() == [1, 1, 1]
    assert not list(tmp_path.glob("*.bin"))
    shutil.rmtree(tmp_path)
