"""Texts that a language model has read before: their keys and values, in memory and on disk."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .llama import KV, Llama

KEPT_FILES = 24  # prefixes on disk
WORTH_A_FILE = 96  # tokens from which a prefix is kept on disk


class Prefixes:
    """Keys and values of texts that were read before: the latest in memory, long ones also on disk."""

    def __init__(self, folder: Path | None, limit: int):
        self.folder = folder
        self.limit = limit
        self._kept: OrderedDict[str, KV] = OrderedDict()

    def find(self, name: str, text: str, length: int, net: Llama) -> KV | None:
        """What is kept for `text`, which is `length` tokens long, under the weights called `name`."""
        key = _key(name, text)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        kv = self._read(key, length, net)
        if kv is not None:
            self._remember(key, kv)
        return kv

    def keep(self, name: str, text: str, kv: KV) -> None:
        """Keeps a copy, and drops the longest unused beyond the limit."""
        key, kv = _key(name, text), kv.copy()
        self._remember(key, kv)
        if self.folder and kv.length >= WORTH_A_FILE:
            self._write(self.folder, key, kv)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(kv.nbytes for kv in self._kept.values())

    def _remember(self, key: str, kv: KV) -> None:
        self._kept[key] = kv
        while len(self._kept) > 1 and self.nbytes > self.limit:
            self._kept.popitem(last=False)

    def _read(self, key: str, length: int, net: Llama) -> KV | None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if self.folder is None or not (file := self.folder / f"{key}.safetensors").exists():
            return None
        kv = net.kv(0)
        try:
            found = load_file(file, device=net.device)
            os.utime(file)
        except (OSError, SafetensorError):
            return None  # cut off or removed meanwhile: read the text again
        if found["k"].shape[2] != length or found["k"].dtype != kv.k.dtype:
            return None
        kv.k, kv.v, kv.length = found["k"], found["v"], length
        return kv

    @staticmethod
    def _write(folder: Path, key: str, kv: KV) -> None:
        """Best effort: a full or read-only disk costs time at the next start, nothing else."""
        from safetensors.torch import save_file

        part = folder / f"{key}.{os.getpid()}.part"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_file({"k": kv.k, "v": kv.v}, part)
            part.replace(folder / f"{key}.safetensors")
            files = sorted(folder.glob("*.safetensors"), key=lambda f: f.stat().st_mtime)
            for old in files[:-KEPT_FILES]:
                old.unlink(missing_ok=True)
        except OSError:
            part.unlink(missing_ok=True)


def _key(name: str, text: str) -> str:
    return hashlib.sha256(f"{name}\n{text}".encode()).hexdigest()[:40]
