"""Tiny random checkpoints of the classes that the full profile loads, written in the layout of the hub.

    hub = TinyHub(folder)                   # once per session
    expert, weights = hub.ready(ExpertClass)   # its repositories, planted in a cache as if they had been fetched

A builder per kind of repository; `BUILDERS` says which repository is of which kind. Nothing here has a
meaning: what is tested is that the code around the models loads, calls and converts as it should.
"""

import hashlib
import json
import shutil
import string
from pathlib import Path

from tiny_language import LANGUAGE
from tiny_more import MORE
from tiny_pictures import PICTURES
from tiny_sounds import SOUNDS

from anyloom.core.weight_sources import HF
from anyloom.core.weights import Weights

BUILDERS = {**PICTURES, **SOUNDS, **LANGUAGE, **MORE}
COMMIT = hashlib.sha1(b"tiny").hexdigest()


class TinyHub:
    """Repositories on disk, each built when it is first asked for; and caches that hold them."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.weights = Weights(self.folder / "cache", offline=True)

    def repository(self, name):
        """The folder of a repository as the hub would hold it."""
        home = self.folder / "repositories" / name
        if not home.exists():
            part = home.with_name(home.name + ".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            import torch

            torch.manual_seed(7)
            BUILDERS[name](part)
            part.rename(home)
        return home

    def plant(self, uri):
        """Puts the repository of this URI into the cache, in the layout of the hub's own library."""
        match = HF.match(uri)
        repository = (
            self.weights.hub / f"{'datasets' if match['kind'] else 'models'}--{match['repo'].replace('/', '--')}"
        )
        snapshot = repository / "snapshots" / COMMIT
        if not snapshot.exists():
            for file in sorted(f for f in self.repository(match["repo"]).rglob("*") if f.is_file()):
                name = file.relative_to(self.repository(match["repo"]))
                blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
                blob.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, blob)
                (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
                (snapshot / name).symlink_to(blob)
            (repository / "refs").mkdir()
        (repository / "refs" / match["revision"]).write_text(COMMIT)
        path = snapshot / (match["path"] or "")
        record = {"uri": uri, "path": str(path.relative_to(self.weights.hub))}
        self.weights._home(uri).write_text(json.dumps(record))  # what a whole fetch leaves behind

    def ready(self, expert, device="cpu"):
        """The expert, loaded from weights that were found by their hf: URIs, offline."""
        for uri in expert.card.weights:
            if not self.weights.status(uri).present:
                self.plant(uri)
        made = expert()
        made.load(device, expert.fetch(self.weights))
        return made


def letters():
    """Characters that tiny tokenizers know."""
    return string.ascii_letters + string.digits + " .,!?:'-"
