"""A whole request through the cascade with experts of the full profile, on tiny checkpoints."""

import asyncio
import contextlib
import json

import pytest
from full_rig import hub  # noqa: F401  # a fixture
from pretend_gpu import pretended
from rig import settings, task

from anyloom.controller.fakes import ScriptedController
from anyloom.core.artifacts import ArtifactStore
from anyloom.core.provenance import extract
from anyloom.graphs.engine import Engine
from anyloom.graphs.state import Request
from anyloom.tools.registry import Registry

PLAN = [
    task("text-to-image", 0, text="a red box on a hill"),
    task("image-to-text", 1, image="<resource>-0"),
    task("text-to-video", 2, text="<resource>-1"),
]
PINNED = {
    "text-to-image": "stable-diffusion-1-5",
    "image-to-text": "blip-caption-base",
    "text-to-video": "zeroscope-v2-576w",
}
SMALL = {
    "diffusers": {"steps": 2, "width": 32, "height": 32} | {"guidance": 5.0},
    "image-to-text": {"tokens": 8},
    "text-to-video": {"frames": 3},
}


@pytest.mark.parametrize("count", [0, 2])
def test_a_picture_is_drawn_described_and_filmed(hub, tmp_path, count):
    """On the CPU, and on two GPUs that are pretended."""
    own = settings(
        tmp_path, profile="full", device="auto", memory=1 << 40, policy="pinned", pinned=PINNED, experts=SMALL
    )
    registry = Registry(own)
    for name in PINNED.values():
        for uri in registry.expert(name).card.weights:
            hub.plant(uri)
    places = []

    async def ask():
        engine = Engine(own, controller=ScriptedController(PLAN), registry=registry, weights=hub.weights)
        try:
            return await engine.ask(Request("Draw a red box, describe it and make a film of that."))
        finally:
            places.extend(r.device for r in engine.runtime.residency.loaded())
            await engine.aclose()

    with pretended(count, memory=14_000_000_000) if count else contextlib.nullcontext():
        answer = asyncio.run(ask())
    # What drew the picture was unused for longest, and made room for what made the film.
    assert sorted(places) == (["cpu", "cuda:0", "cuda:1"] if count else ["cpu"] * 3)
    assert [(r.status, r.expert) for r in answer.results] == [("ok", e) for e in PINNED.values()], answer.results
    drawn, _, film = (r.artifacts[0] for r in answer.results)
    assert (drawn.media_type, film.media_type) == ("image/png", "video/mp4")
    store = ArtifactStore(tmp_path / "data" / "artifacts")
    made = extract(store.path(film))
    assert made["expert"] == "zeroscope-v2-576w"
    assert made["weights"] == list(registry.expert("zeroscope-v2-576w").card.weights)
    assert made["params"]["facts"] | {"frames": 3, "guidance": 5.0, "width": 32} == made["params"]["facts"]
    assert json.dumps(extract(store.path(drawn)))
