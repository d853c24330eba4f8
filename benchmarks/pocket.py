"""The whole pocket profile in one process: seconds of each kind of request, cold and warm, and memory at its peak.

    python benchmarks/pocket.py [--warm 3] [--modes cascade,end2end] [--json]

Every request is asked once cold (its models are loaded then) and `--warm` times again with other seeds; what is loaded
stays loaded, so that the last line is the memory of a process that has done everything. Nothing comes from the result
cache. Goals of issue 3: picture under 2 s, clip under 10 s, sound under 5 s, caption under 0.7 s, planning included
here and not in the goals; memory under 2.5 GiB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from anyloom.agent import Agent
from anyloom.core.settings import Settings, load_settings
from anyloom.evaluation.media import made
from anyloom.evaluation.meter import peak

PICTURE = {"make": "picture", "shape": "heart", "colour": "red"}
CLIP = {"make": "clip", "shape": "fish", "colour": "blue", "motion": "left"}
SOUND = {"make": "sound", "kind": "siren"}
NOTE = Path(__file__).parents[1] / "examples" / "note.png"
ASKED: tuple[tuple[str, str, str], ...] = (  # what it is, the request, the modality that must come
    ("picture", "draw a red apple", "image"),
    ("clip", "make a video of a rocket moving up", "video"),
    ("sound", "make the sound of a violin", "audio"),
    ("caption of a picture", "describe this picture", "text"),
    ("caption of a clip", "describe what happens in this video", "text"),
    ("caption of a sound", "what can be heard in this recording?", "text"),
    ("speech", 'say aloud: "two apples and a pear"', "audio"),
    ("writing", "read what is written on this note", "text"),
    ("question", "What is the capital of France?", "text"),
)


def attached(folder: Path) -> dict[str, Path]:
    """The files that the requests come with."""
    found = {"writing": NOTE}
    kinds = (("caption of a picture", PICTURE), ("caption of a clip", CLIP), ("caption of a sound", SOUND))
    for kind, recipe in kinds:
        data, _, name = made(recipe)
        found[kind] = folder / name
        found[kind].write_bytes(data)
    return found


def measure(settings: Settings, mode: str, warm: int, folder: Path) -> list[dict[str, object]]:
    """A row for each request."""
    rows: list[dict[str, object]] = []
    files = attached(folder)
    with Agent(settings) as agent:
        for kind, request, wants in ASKED:
            times, there = [], True
            for seed in range(warm + 1):
                began = time.perf_counter()
                answer = agent.ask(request, attachments=[files[kind]] if kind in files else [], mode=mode, seed=seed)
                times.append(time.perf_counter() - began)
                came = {str(a.modality) for a in answer.artifacts} | ({"text"} if answer.text else set())
                there = there and answer.ok and wants in came
            rows.append({"mode": mode, "kind": kind, "answered": there, "cold": round(times[0], 2),
                         "warm": round(statistics.median(times[1:]), 2), "peak_gib": _gib()})  # fmt: skip
            print(_line(rows[-1]), flush=True)
    return rows


def _gib() -> float:
    return round(peak() / 2**30, 2)


def _line(row: dict[str, object]) -> str:
    there = "" if row["answered"] else "   NOT ANSWERED"
    return f"{row['mode']:<9}{row['kind']:<22}{row['cold']:>7} s{row['warm']:>8} s{row['peak_gib']:>8} GiB{there}"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--warm", type=int, default=3)
    parser.add_argument("--modes", default="cascade")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    print(f"{'mode':<9}{'request':<22}{'cold':>9}{'warm':>10}{'peak so far':>12}")
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"data_dir": folder, "result_cache": False})
        rows = [r for mode in args.modes.split(",") for r in measure(settings, mode, args.warm, Path(folder))]
    if args.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
