"""Run bundles: everything that is known of one answered request, as plain files.

    runs = RunStore(data_dir, store)
    runs.list(); runs.get("3f2a"); runs.get("last"); runs.diff("3f2a", "91bc"); runs.export("3f2a", Path("run.zip"))

A bundle is `runs/<id>/run.json` (request, plan, results with the hashes of their outputs, experts,
seeds, weights, versions, times, answer) and `events.jsonl`, which grows as the run goes on. `run.json`
is written aside and renamed. The content itself is in the artifact store; `export` brings both together.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..controller.plan import Plan
from ..core.artifacts import Artifact, ArtifactStore, safe_name, write_atomic
from ..core.errors import InputError, StorageError, UnknownName
from ..core.events import AnswerDone, Event, PlanMade
from .merge import descendants
from .state import Answer, Request, Result

if TYPE_CHECKING:
    from filelock import BaseFileLock

FORMAT = 1
VERSIONS = ("anyloom", "langgraph", "torch", "transformers")  # packages whose version a result may depend on
OPEN = ("running", "waiting", "stopped", "failed")  # states from which a run can be resumed
GONE = ("abandoned", "undone")  # states of runs that are no part of their conversation any more


@dataclass(frozen=True)
class RunRow:
    """A run in a list. `state`: running, waiting (for approval), unfinished (killed), stopped, failed, done,
    abandoned (another request took its place), undone (taken back).
    """

    id: str
    when: str
    state: str
    request: str
    thread: str


Rows = list[RunRow]  # names for what RunStore returns, as its method `list` hides the type of that name
Lines = list[dict[str, Any]]
Words = list[str]


class RunLog:
    """Writes one bundle while its run goes on."""

    def __init__(self, folder: Path, bundle: dict[str, Any]):
        self.folder = folder
        self.bundle = bundle
        self._started = time.monotonic()
        self.save()
        try:
            self._events = (folder / "events.jsonl").open("a", encoding="utf-8", buffering=1)
        except OSError as e:
            raise StorageError(f"Cannot write '{folder}' ({e.strerror}); choose another folder with --data.") from e

    def event(self, event: Event) -> None:
        """Appends an event; a plan is also taken over into the bundle at once."""
        data = {"event": "answer_done"} if isinstance(event, AnswerDone) else event.to_json()
        line = {"at": round(time.monotonic() - self._started, 3), **data}
        try:
            self._events.write(json.dumps(line, ensure_ascii=False) + "\n")
        except OSError as e:
            raise StorageError(f"Cannot write '{self.folder}' ({e.strerror}); free some space.") from e
        if isinstance(event, PlanMade):
            self.update(plan=list(event.tasks), bridges=list(event.bridges))

    def update(self, **fields: Any) -> None:
        """Sets fields of the bundle and writes it."""
        self.bundle.update(fields)
        self.save()

    def finish(self, state: str, answer: Answer | None = None, error: str = "", files: Any = ()) -> None:
        """The last entry. `files` are the earlier artifacts of the conversation that the plan names."""
        fields: dict[str, Any] = {"state": state, "ended": _now(), "error": error}
        if answer is not None:
            data = answer.to_json()
            fields |= {"plan": data["plan"], "results": data["results"], "bridges": data["bridges"]}
            fields |= {"answer": {"text": answer.text, "ok": answer.ok}, "costs": data["costs"]}
            fields |= {"files": [a.to_json() for a in files], "weights": _weights(answer.results)}
            fields["seeds"] = {str(r.id): r.seed for r in answer.results if r.ok}
            fields["times"] = {str(r.id): round(r.seconds, 4) for r in answer.results}
        self.update(**fields)

    def save(self) -> None:
        """Writes `run.json`."""
        text = json.dumps(self.bundle, ensure_ascii=False, indent=1)
        write_atomic(self.folder / "run.json", text.encode())

    def close(self) -> None:
        """Closes the file of events."""
        self._events.close()


class RunStore:
    """All bundles below `data_dir/runs`. Reading and writing are safe for several processes."""

    def __init__(self, data_dir: Path, store: ArtifactStore):
        self.data_dir = Path(data_dir)
        self.root = self.data_dir / "runs"
        self.store = store

    def begin(self, run: str, thread: str, request: Request, settings: Mapping[str, Any], **more: Any) -> RunLog:
        """A new bundle, in the state `running`."""
        bundle = {
            "format": FORMAT,
            "id": run,
            "thread": thread,
            "state": "running",
            "started": _now(),
            "ended": "",
            "request": request.to_json(),
            "settings": dict(settings),
            "versions": _versions(),
            "plan": [],
            "bridges": [],
            "results": [],
            "files": [],
            "weights": {},
            "seeds": {},
            "times": {},
            "answer": {"text": "", "ok": False},
            "costs": {},
            "error": "",
            **more,
        }
        return RunLog(self.root / run, bundle)

    def reopen(self, run: str) -> RunLog:
        """The bundle of a run that goes on."""
        bundle = self.get(run)
        return RunLog(self.root / bundle["id"], {**bundle, "state": "running", "error": ""})

    def list(self) -> Rows:
        """Every run, the newest first."""
        bundles = sorted(self._bundles(), key=lambda b: (b["started"], b["id"]), reverse=True)
        return [
            RunRow(b["id"], _shown(b["started"]), self._state(b), b["request"]["text"], b["thread"]) for b in bundles
        ]

    def threads(self) -> Rows:
        """The newest run of every conversation, the newest first."""
        newest: dict[str, RunRow] = {}
        for row in self.list():
            newest.setdefault(row.thread, row)
        return [*newest.values()]

    def get(self, run: str) -> dict[str, Any]:
        """The bundle with this id, with this unique beginning of it, or the newest for `last`."""
        if run == "last":
            rows = self.list()
            if not rows:
                raise UnknownName('There are no runs yet; make one with anyloom ask "..."')
            run = rows[0].id
        folders = [f.name for f in self.root.glob("*") if f.name.startswith(run)] if run else []
        if run in folders:
            folders = [run]
        if not folders:
            raise UnknownName(f"There is no run '{run}'; `anyloom runs list` shows those there are.")
        if len(folders) > 1:
            some = ", ".join(sorted(folders)[:4])
            raise UnknownName(f"'{run}' is the beginning of {len(folders)} runs ({some}); give more of it.")
        bundle = _read(self.root / folders[0] / "run.json")
        if bundle is None:
            folder = self.root / folders[0]
            raise StorageError(f"The run '{folders[0]}' has no readable run.json; delete the folder '{folder}'.")
        return bundle

    def last(self, thread: str) -> dict[str, Any] | None:
        """The newest bundle of a conversation."""
        mine = [b for b in self._bundles() if b["thread"] == thread]
        return max(mine, key=lambda b: (b["started"], b["id"]), default=None)

    def of(self, thread: str) -> Lines:
        """The bundles of a conversation, the oldest first, without those left behind or taken back."""
        mine = [b for b in self._bundles() if b["thread"] == thread and b["state"] not in GONE]
        return sorted(mine, key=lambda b: (b["started"], b["id"]))

    def events(self, run: str) -> Lines:
        """The events of a run as JSON; a line cut off by a kill is left out."""
        found = []
        file = self.root / self.get(run)["id"] / "events.jsonl"
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def diff(self, first: str, second: str) -> Words:
        """In words, a line each: what differs in request, plan, experts, seeds, outputs and (by half or more) times."""
        a, b = self.get(first), self.get(second)
        lines = _changes("request", a["request"]["text"], b["request"]["text"])
        lines += _changes("attachments", _hashes(a["request"]["attachments"]), _hashes(b["request"]["attachments"]))
        for name in sorted({*a["versions"], *b["versions"]}):
            lines += _changes(f"version of {name}", a["versions"].get(name), b["versions"].get(name))
        tasks = [{t["id"]: t for t in x["plan"]} for x in (a, b)]
        results = [{r["id"]: r for r in x["results"]} for x in (a, b)]
        for i in sorted({*tasks[0], *tasks[1]}):
            name = f"task {i}"
            lines += _changes(name, *(_task(t.get(i)) for t in tasks))
            one, two = (r.get(i) for r in results)
            if one is None or two is None:
                continue
            for field in ("status", "expert", "seed", "error"):
                lines += _changes(f"{name} {field}", one[field], two[field])
            lines += _changes(f"{name} output", _hashes(one["artifacts"]), _hashes(two["artifacts"]))
            if not one["cached"] and not two["cached"] and _far(one["seconds"], two["seconds"]):
                lines.append(f"{name} time: {one['seconds']:.1f} s → {two['seconds']:.1f} s")
        return lines

    def export(self, run: str, target: Path) -> Path:
        """Bundle and artifacts as a folder, or as one file if the name ends in .zip. Nothing is overwritten."""
        bundle, target = self.get(run), Path(target)
        if target.exists():
            raise InputError(f"'{target}' exists; choose another name.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as temporary:
            folder = Path(temporary) / "bundle"
            (folder / "artifacts").mkdir(parents=True)
            for file in ("run.json", "events.jsonl"):
                if (self.root / bundle["id"] / file).exists():
                    shutil.copyfile(self.root / bundle["id"] / file, folder / file)
            for artifact in _artifacts(bundle):
                shutil.copyfile(self.store.path(artifact), folder / "artifacts" / safe_name(artifact.name))
            if target.suffix.lower() == ".zip":
                os.replace(_zip(folder, Path(temporary) / "bundle.zip"), target)
            else:
                os.replace(folder, target)
        return target

    def lock(self, thread: str) -> BaseFileLock:
        """Held by who answers in this conversation; given up by the system when its process dies."""
        from filelock import FileLock

        folder = self.data_dir / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / (hashlib.sha256(thread.encode()).hexdigest()[:24] + ".lock"), timeout=0)

    def _state(self, bundle: Mapping[str, Any]) -> str:
        """The recorded state; `running` without anybody who runs it is `unfinished`."""
        if bundle["state"] != "running":
            return str(bundle["state"])
        from filelock import Timeout

        try:
            with self.lock(bundle["thread"]):
                return "unfinished"
        except Timeout:
            return "running"

    def _bundles(self) -> Iterator[dict[str, Any]]:
        for file in self.root.glob("*/run.json"):
            bundle = _read(file)
            if bundle is not None:
                yield bundle


@dataclass(frozen=True)
class Replayed:
    """What a replay came to. `same` and `changed` are the tasks that ran again, by whether their hashes are equal."""

    original: str
    answer: Answer
    same: tuple[int, ...]
    changed: tuple[int, ...]
    kept: tuple[int, ...]

    @property
    def equal(self) -> bool:
        """Whether everything that ran again came out as before."""
        return not self.changed

    def lines(self) -> list[str]:
        """For people."""
        found = [f"Replay of {self.original} as {self.answer.run}."]
        if self.kept:
            found.append(f"Kept without running: tasks {_numbers(self.kept)}.")
        if self.same:
            found.append(f"Same output as before: tasks {_numbers(self.same)}.")
        if self.changed:
            found.append(f"Another output than before: tasks {_numbers(self.changed)}.")
        return found


@dataclass(frozen=True)
class Rerun:
    """What a replay starts from: the request with experts and seeds fixed, the plan, and the results that stand."""

    request: Request
    given: dict[str, Any]
    again: tuple[int, ...]


def rerun(
    bundle: Mapping[str, Any], store: ArtifactStore, from_step: int | None, expert: str | None, seed: int | None
) -> Rerun:
    """How to do this run again, whole or from a step on. InputError when that makes no sense."""
    plan = Plan.parse(bundle["plan"])
    known = [t.id for t in plan.tasks]
    if not plan:
        raise InputError(f"The run '{bundle['id']}' was answered without any task, so there is nothing to replay.")
    if from_step is not None and from_step not in known:
        raise InputError(f"The run '{bundle['id']}' has no task {from_step}; its tasks are {_numbers(known)}.")
    if expert is not None and from_step is None:
        raise InputError("Another expert needs the task it is for; give it with --from.")
    results = {r["id"]: r for r in bundle["results"]}
    again = set(known) if from_step is None else descendants(plan, from_step)
    for task in plan.tasks:  # what cannot be kept runs again, and so does all that reads from it
        recorded = results.get(task.id)
        if recorded is None or recorded["status"] != "ok" or again & set(task.dep) or not _whole(recorded, store):
            again.add(task.id)
    request = Request.from_json(bundle["request"])
    steps = {}
    for i in sorted(again):
        step = {k: results[i][k] for k in ("expert", "seed")} if i in results and results[i]["status"] == "ok" else {}
        if from_step is None and seed is not None:
            step.pop("seed", None)
        if i == from_step:
            step |= {k: v for k, v in (("expert", expert), ("seed", seed)) if v is not None}
        steps[str(i)] = step
    given = {
        "plan": bundle["plan"],
        "bridges": bundle["bridges"],
        "results": [results[i] for i in known if i not in again],
    }
    attached = {a.name: a for a in (*request.attachments, *map(Artifact.from_json, bundle["files"]))}
    changed = Request(
        text=request.text,
        attachments=tuple(attached.values()),
        mode=request.mode,
        seed=seed if seed is not None and from_step is None else request.seed,
        policy=request.policy,
        pinned=request.pinned,
        max_seconds=request.max_seconds,
        fresh=True,
        steps=steps,
    )
    return Rerun(changed, given, tuple(sorted(again)))


def compare(bundle: Mapping[str, Any], answer: Answer, again: tuple[int, ...]) -> Replayed:
    """Holds a replay's hashes against the recorded ones."""
    before = {r["id"]: _hashes(r["artifacts"]) for r in bundle["results"]}
    after = {r.id: _hashes([a.to_json() for a in r.artifacts]) for r in answer.results}
    same = tuple(i for i in again if before.get(i) == after.get(i) and after.get(i))
    kept = tuple(i for i in after if i not in again)
    return Replayed(bundle["id"], answer, same, tuple(i for i in again if i not in same), kept)


def _whole(result: Mapping[str, Any], store: ArtifactStore) -> bool:
    return all(store.holds(Artifact.from_json(a)) for a in result["artifacts"])


def _artifacts(bundle: Mapping[str, Any]) -> list[Artifact]:
    """Everything that went in or came out, by name."""
    raw = [*bundle["request"]["attachments"], *bundle["files"]]
    raw += [a for r in bundle["results"] for a in r["artifacts"]]
    return list({a["name"]: Artifact.from_json(a) for a in raw}.values())


def _zip(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            out.write(path, path.relative_to(folder))
    return file


def _read(file: Path) -> dict[str, Any] | None:
    try:
        bundle = json.loads(file.read_text(encoding="utf-8"))
        return bundle if isinstance(bundle, dict) and bundle.get("format") == FORMAT else None
    except (OSError, json.JSONDecodeError):
        return None


def _weights(results: tuple[Result, ...]) -> dict[str, list[str]]:
    """Expert -> the weights that made its outputs, as their provenance says."""
    made = [(r.expert, a.provenance.weights) for r in results for a in r.artifacts if a.provenance]
    return {expert: list(uris) for expert, uris in made}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    """UTC, to the microsecond, so that runs sort."""
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="microseconds")


def _shown(moment: str) -> str:
    """Local time to the second."""
    from datetime import datetime

    return datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _hashes(artifacts: Any) -> str:
    return ", ".join(a["sha256"][:12] for a in artifacts)


def _task(task: Mapping[str, Any] | None) -> str:
    if task is None:
        return "(none)"
    return f"{task['task']}({', '.join(f'{k}={v}' for k, v in sorted(task['args'].items()))})"


def _changes(what: str, one: Any, two: Any) -> list[str]:
    shown = [str(x) if x not in ("", None) else "(none)" for x in (one, two)]
    return [] if one == two else [f"{what}: {shown[0]} → {shown[1]}"]


def _far(one: float, two: float) -> bool:
    return abs(one - two) > 0.1 and max(one, two) > 1.5 * min(one, two)


def _numbers(ids: Any) -> str:
    return ", ".join(map(str, ids))
