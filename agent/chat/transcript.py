"""A conversation as a Markdown file, with the files of it beside.

    write(exchanges, "4fe1", store, Path("talk.md"))     # talk.md and talk-files/
    write(exchanges, "4fe1", store, Path("folder"))      # folder/conversation.md and the files in folder/
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from ...core.artifacts import Artifact, ArtifactStore, write_atomic
from ...core.errors import InputError
from .talk import Exchange

ENDINGS = (".md", ".markdown", ".txt")


def write(exchanges: Sequence[Exchange], thread: str, store: ArtifactStore, target: Path) -> Path:
    """Writes it all and returns the Markdown file. Another file of that name is not overwritten."""
    head = f"# Conversation {thread}\n"
    alone = target.suffix.lower() in ENDINGS and not target.is_dir()
    file = target if alone else target / "conversation.md"
    folder = target.with_name(f"{target.stem}-files") if alone else target
    if target.is_file() and not alone:
        raise InputError(f"'{target}' is a file; give a folder, or a name that ends in .md.")
    if file.exists() and not _ours(file, head):
        raise InputError(f"'{file}' exists and is another text; choose another name.")
    parts = [head]
    for x in exchanges:
        parts.append(f"**You:** {x.request.text}\n")
        parts += _links(x.request.attachments, store, folder, file)
        if x.answer is None:
            parts.append("*(not finished)*\n")
            continue
        names = {a.name: _exported(a, store, folder, file) for a in x.answer.artifacts}
        parts.append(_pointed(x.answer.text.strip(), names) + "\n")
        parts += [_link(a, names[a.name]) for a in x.answer.artifacts]
    write_atomic(file, "\n".join(parts).encode())
    return file


def _ours(file: Path, head: str) -> bool:
    """Whether it is an earlier copy of the same conversation."""
    try:
        with file.open(encoding="utf-8") as opened:
            return opened.readline() == head
    except (OSError, UnicodeDecodeError):
        return False


def _links(artifacts: Iterable[Artifact], store: ArtifactStore, folder: Path, file: Path) -> list[str]:
    return [_link(a, _exported(a, store, folder, file)) for a in artifacts]


def _exported(artifact: Artifact, store: ArtifactStore, folder: Path, file: Path) -> str:
    """The address of a copied file, as seen from the Markdown; empty when the store no longer has it."""
    if not store.holds(artifact):
        return ""
    return quote(store.export(artifact, folder).relative_to(file.parent).as_posix())


def _link(artifact: Artifact, address: str) -> str:
    name = re.sub(r"([\[\]\\<>*_`])", r"\\\1", artifact.name)
    if not address:
        return f"{name} (gone from the store)\n"
    return f"{'!' if artifact.modality == 'image' else ''}[{name}]({address})\n"


def _pointed(text: str, names: dict[str, str]) -> str:
    """The answer, with its links leading to the copied files."""
    for name, address in names.items():
        if address:
            text = text.replace(f"]({name})", f"]({address})")
    return text
