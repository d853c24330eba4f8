"""Run bundles that several front ends share: the bundle as a key, its events as a stream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core.artifacts import ArtifactStore
from ...core.errors import UnknownName
from ...core.events import AnswerDone, Event
from ..runs import Lines, RunLog, RunStore
from ..state import Request
from .link import Link
from .lock import LeaseLock

KEPT_RUNS = 50_000
KEPT_EVENTS = 20_000  # of one run
EVENTS_SECONDS = 7 * 24 * 3600


class SharedRunLog(RunLog):
    """Writes a bundle here and on the server, and each event to a stream that other processes can follow."""

    def __init__(self, folder: Path, bundle: dict[str, Any], link: Link):
        self.link = link
        super().__init__(folder, bundle)

    def event(self, event: Event) -> None:
        """Appends an event here and there; the stream has whole answers, the file does not."""
        super().event(event)
        key = self.link.key("events", self.bundle["id"])
        line = json.dumps(event.to_json(), ensure_ascii=False)
        self.link.client.xadd(key, {"event": line}, maxlen=KEPT_EVENTS, approximate=True)
        if isinstance(event, AnswerDone):
            self.link.client.expire(key, EVENTS_SECONDS)

    def save(self) -> None:
        """Writes `run.json` and its copy."""
        super().save()
        b = self.bundle
        with self.link.client.pipeline(transaction=True) as pipe:
            pipe.hset(self.link.key("runs"), b["id"], json.dumps(b, ensure_ascii=False))
            pipe.sadd(self.link.key("thread-runs", b["thread"]), b["id"])
            pipe.execute()


class SharedRunStore(RunStore):
    """A RunStore over the bundles of every front end."""

    def __init__(self, data_dir: Path, store: ArtifactStore, link: Link):
        super().__init__(data_dir, store)
        self.link = link

    def begin(self, run: str, thread: str, request: Request, settings: Mapping[str, Any], **more: Any) -> RunLog:
        """A new bundle, in the state `running`."""
        log = super().begin(run, thread, request, settings, **more)
        log.close()
        return SharedRunLog(self.root / run, log.bundle, self.link)

    def reopen(self, run: str) -> RunLog:
        """The bundle of a run that goes on, begun here or elsewhere."""
        bundle = self.get(run)
        return SharedRunLog(self.root / bundle["id"], {**bundle, "state": "running", "error": ""}, self.link)

    def get(self, run: str) -> dict[str, Any]:
        """The bundle with this id, with this unique beginning of it, or the newest for `last`."""
        found = self.link.client.hget(self.link.key("runs"), run)
        if found is not None:
            return dict(json.loads(found))
        if run == "last":
            rows = self.list()
            if not rows:
                raise UnknownName('There are no runs yet; make one with anyloom ask "..."')
            return self.get(rows[0].id)
        ids = [k.decode() for k in self.link.client.hkeys(self.link.key("runs")) if run and k.startswith(run.encode())]
        if len(ids) == 1:
            return self.get(ids[0])
        if not ids:
            raise UnknownName(f"There is no run '{run}'; `anyloom runs list` shows those there are.")
        some = ", ".join(sorted(ids)[:4])
        raise UnknownName(f"'{run}' is the beginning of {len(ids)} runs ({some}); give more of it.")

    def last(self, thread: str) -> dict[str, Any] | None:
        """The newest bundle of a conversation."""
        ids = self.link.client.smembers(self.link.key("thread-runs", thread))
        mine = [json.loads(b) for b in (self.link.client.hmget(self.link.key("runs"), list(ids)) if ids else ()) if b]
        return max(mine, key=lambda b: (b["started"], b["id"]), default=None)

    def events(self, run: str) -> Lines:
        """The events of a run, from the server while it has them, else from this machine's file."""
        bundle = self.get(run)
        lines = [json.loads(fields[b"event"]) for _, fields in self.link.client.xrange(self._stream(bundle["id"]))]
        return lines or super().events(bundle["id"])

    def follow(self, run: str, seconds: float = 1.0, after: str = "0") -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a run as they come, from any front end, with their ids; ends after the answer.

        Gives up when nothing came for `seconds`; go on with the last id as `after`.
        """
        while True:
            answer = self.link.client.xread({self._stream(run): after}, block=max(1, int(seconds * 1000)))
            if not answer:
                return
            for name, fields in answer[0][1]:
                after, event = name.decode(), json.loads(fields[b"event"])
                yield after, event
                if event["event"] == "answer_done":
                    return

    def lock(self, thread: str) -> Any:
        """Held by who answers in this conversation, on whatever machine; given up half a minute after its death."""
        return LeaseLock(self.link, self.link.key("lock", hashlib.sha256(thread.encode()).hexdigest()[:24]))

    def _stream(self, run: str) -> str:
        return self.link.key("events", run)

    def _bundles(self) -> Iterator[dict[str, Any]]:
        for _, text in self.link.client.hscan_iter(self.link.key("runs"), count=500):
            yield dict(json.loads(text))
