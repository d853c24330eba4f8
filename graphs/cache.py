"""ResultCache: what an expert made of which arguments, kept across restarts and shared by processes.

    key = key_of(expert, {"image": sha, "text": "grayscale"}, seed)
    cache.put(key, expert.name, artifacts, seconds)
    cache.get(key, store)          # None unless the store still holds every artifact

The key is content: expert, its weights, each argument's hash, the seed. Artifacts are named by
hash; their bytes are in the store. One SQLite file in WAL mode. A cache that cannot be read or
written is no cache, never an error: the expert runs.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from ..core.artifacts import Artifact, ArtifactStore
from ..core.settings import Secret
from ..tools.contracts import Expert

T = TypeVar("T")

_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS results (
    key TEXT PRIMARY KEY, expert TEXT NOT NULL, artifacts TEXT NOT NULL,
    seconds REAL NOT NULL, used REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS results_used ON results (used);
"""


@dataclass(frozen=True)
class Hit:
    """A known result. `artifacts` bear the names that the expert gave; `seconds` is what it took then."""

    artifacts: tuple[Artifact, ...]
    seconds: float


def key_of(expert: type[Expert], args: Mapping[str, str], seed: int) -> str:
    """The content address of a result. `args` maps names to SHA-256 sums (files) or `text:` and the text itself."""
    what = [_version(), _code(expert.__module__), expert.name, sorted(expert.card.weights), sorted(args.items()), seed]
    if options := {k: v for k, v in expert.options.items() if not isinstance(v, Secret)}:
        what.append(options)
    return hashlib.sha256(json.dumps(what, ensure_ascii=False).encode()).hexdigest()


def _code(module: str) -> str:
    """The time of the file that a plugin's expert is written in, so that an edited one is asked again."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if module.split(".")[0] == __name__.split(".")[0] or file is None:
        return ""
    with contextlib.suppress(OSError):
        return str(os.stat(file).st_mtime_ns)
    return ""


@functools.cache
def _version() -> str:
    """A new release of anyloom may make something else of the same weights."""
    try:
        return metadata.version("anyloom")
    except metadata.PackageNotFoundError:
        return "0"


class ResultCache:
    """At most `limit` results, the least recently used dropped first. Safe for threads and processes."""

    def __init__(self, file: Path, limit: int = 10_000):
        self.file = Path(file)
        self.limit = limit
        self._lock = threading.Lock()
        self._open: sqlite3.Connection | None = None

    def get(self, key: str, store: ArtifactStore) -> Hit | None:
        """The result with this key, if it is known and the store still holds all of it."""

        def look(db: sqlite3.Connection) -> Hit | None:
            row = db.execute("SELECT artifacts, seconds FROM results WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            hit = Hit(tuple(Artifact.from_json(a) for a in json.loads(row[0])), row[1])
            if not all(store.holds(a) for a in hit.artifacts):
                db.execute("DELETE FROM results WHERE key = ?", (key,))
                return None
            db.execute("UPDATE results SET used = ? WHERE key = ?", (time.time(), key))
            return hit

        return self._do(look, None)

    def put(self, key: str, expert: str, artifacts: Sequence[Artifact], seconds: float) -> None:
        """Remembers a result whose artifacts are in the store."""
        listed = json.dumps([a.to_json() for a in artifacts], ensure_ascii=False)

        def keep(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO results (key, expert, artifacts, seconds, used) VALUES (?, ?, ?, ?, ?)",
                (key, expert, listed, seconds, time.time()),
            )
            if self._count(db) > self.limit:  # a tenth at once, so that not every write has to tidy up
                db.execute(
                    "DELETE FROM results WHERE key IN (SELECT key FROM results ORDER BY used LIMIT ?)",
                    (self._count(db) - self.limit + self.limit // 10,),
                )

        self._do(keep, None)

    def claim(self, key: str, until: contextlib.ExitStack) -> bool:
        """Whether the caller may make this result: always, as one process runs an expert once at a time."""
        return True

    def seconds(self) -> dict[str, float]:
        """Mean seconds of a call, by expert: what the policy `fastest` goes by."""
        query = "SELECT expert, AVG(seconds) FROM results GROUP BY expert"
        return self._do(lambda db: dict(db.execute(query).fetchall()), {})

    def __len__(self) -> int:
        return self._do(self._count, 0)

    def clear(self) -> int:
        """Forgets everything; says how many results that was. The artifacts stay in the store."""
        return self._do(lambda db: db.execute("DELETE FROM results").rowcount, 0)

    def close(self) -> None:
        """Closes the file; the next use opens it again."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    @staticmethod
    def _count(db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT COUNT(*) FROM results").fetchone()[0])

    def _do(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """`work` on a connection, one thread at a time; `otherwise` when the file cannot be used, which is logged."""
        with self._lock:
            try:
                if self._open is None:
                    self._open = self._connect()
                return work(self._open)
            except (sqlite3.Error, OSError, ValueError, KeyError) as e:
                _log.warning("The result cache '%s' cannot be used (%s); results are made anew.", self.file, e)
                return otherwise

    def _connect(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self.file, timeout=10, isolation_level=None, check_same_thread=False)
        for attempt in range(100):  # two processes that open a new file at once: SQLite does not wait for this one
            try:
                db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as e:
                if attempt == 99 or "locked" not in str(e):
                    raise
                time.sleep(0.05)
        db.execute("PRAGMA synchronous=NORMAL")  # a power cut may cost the newest entries, a kill none
        db.executescript(_SCHEMA)
        return db
