"""Whose conversation is whose: a browser sees only its own, found by a secret it keeps."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

_SCHEMA = "CREATE TABLE IF NOT EXISTS threads (thread TEXT PRIMARY KEY, owner TEXT NOT NULL, title TEXT NOT NULL)"


class Owners:
    """Threads by owner, in one SQLite file. The owner's secret is kept only as its hash."""

    def __init__(self, file: Path):
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        with self._db() as db:
            db.execute(_SCHEMA)

    def claim(self, thread: str, owner: str, title: str) -> bool:
        """Notes a conversation as the owner's, unless it is another's."""
        with self._db() as db:
            db.execute("INSERT OR IGNORE INTO threads VALUES (?, ?, ?)", (thread, _hash(owner), title[:80]))
            return self._owner(db, thread) == _hash(owner)

    def owns(self, thread: str, owner: str) -> bool:
        """Whether the conversation is this owner's."""
        with self._db() as db:
            return self._owner(db, thread) == _hash(owner)

    def known(self, thread: str) -> bool:
        """Whether the conversation is anybody's."""
        with self._db() as db:
            return self._owner(db, thread) is not None

    def threads(self, owner: str) -> list[tuple[str, str]]:
        """Title and thread, the newest first."""
        query = "SELECT title, thread FROM threads WHERE owner = ? ORDER BY rowid DESC LIMIT 100"
        with self._db() as db:
            return [(t, n) for t, n in db.execute(query, (_hash(owner),))]

    def forget(self, thread: str, owner: str) -> None:
        """Takes a conversation off the list."""
        with self._db() as db:
            db.execute("DELETE FROM threads WHERE thread = ? AND owner = ?", (thread, _hash(owner)))

    @staticmethod
    def _owner(db: sqlite3.Connection, thread: str) -> str | None:
        row = db.execute("SELECT owner FROM threads WHERE thread = ?", (thread,)).fetchone()
        return row[0] if row else None

    def _db(self) -> sqlite3.Connection:
        return sqlite3.connect(self.file, timeout=10)


def _hash(owner: str) -> str:
    return hashlib.sha256(owner.encode()).hexdigest()
