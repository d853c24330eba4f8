"""Messages: a conversation in OpenAI's form becomes a request and its earlier exchanges.

    asked = await read(messages, files)
    asked.text, asked.attachments          # of the last message, which is the user's
    asked.turns                            # what came before, as the cascade's state holds it

The API keeps nothing between calls: the client sends the whole conversation each time. Files of
earlier messages, and files that earlier answers link to, can be used by their names; the same
conversation gives the same names each time. A system message stands before all exchanges, where
a chat model reads it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...core.artifacts import Artifact, safe_name
from ...core.errors import InputError
from ...graphs.cascade import TURN_CHARACTERS, TURNS, kept_turns
from ...graphs.state import without_provenance
from ..intake import checked_text, decoded, distinct
from .errors import Refused
from .files import OURS, Files

LINK = re.compile(rf"!?\[([^\[\]\n]*)\]\(\s*({OURS.pattern})\s*\)|({OURS.pattern})")
FORMATS = ("wav", "mp3", "flac", "ogg", "m4a", "webm")
SUFFIX = re.compile(r"-\d+$")


@dataclass
class Asked:
    """What the messages come to."""

    text: str = ""
    attachments: tuple[Artifact, ...] = ()
    turns: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Said:
    """One message: its text, and its files under their names in the conversation."""

    role: str
    text: str
    files: list[Artifact]


async def read(messages: Sequence[dict[str, Any]], files: Files) -> Asked:
    """The request in a conversation. Refused names the message and the part that cannot be used."""
    reader = _Reader(files)
    said = [await reader.message(n, m) for n, m in enumerate(messages)]
    if not said or said[-1].role != "user":
        raise Refused(400, "The last message must be the user's; it is what will be answered.", param="messages")
    first = next((n for n in range(len(said) - 1, -1, -1) if said[n].role != "user"), -1) + 1
    last = said[first:]  # several user messages in a row are one request
    try:
        text = checked_text("\n\n".join(s.text for s in last if s.text.strip()), files.store.limits)
    except InputError as e:
        raise Refused(400, str(e), param="messages") from e
    return Asked(text, tuple(a for s in last for a in s.files), _turns(said[:first]))


def _turns(said: Sequence[_Said]) -> list[dict[str, Any]]:
    """Exchanges: what users said up to an answer, and the answer."""
    system = "\n\n".join(s.text for s in said if s.role == "system" and s.text.strip())
    turns: list[dict[str, Any]] = []
    for s in said:
        if s.role == "system":
            continue
        if s.role == "user":
            if not turns or turns[-1]["answer"] is not None:
                turns.append({"request": "", "answer": None, "artifacts": [], "attachments": []})
            turns[-1]["request"] = "\n\n".join(t for t in (turns[-1]["request"], s.text) if t)
            turns[-1]["attachments"] += [without_provenance(a).to_json() for a in s.files]
        elif turns:
            turns[-1]["answer"] = "\n\n".join(t for t in (turns[-1]["answer"] or "", s.text) if t)
            turns[-1]["artifacts"] += [without_provenance(a).to_json() for a in s.files]
    for n, turn in enumerate(turns):
        turn["seed"] = n  # nobody says which it was: "another one" counts on
        turn["request"] = turn["request"][:TURN_CHARACTERS]
        turn["answer"] = (turn["answer"] or "")[:TURN_CHARACTERS]
    if system:
        opening = {"request": system[:TURN_CHARACTERS], "answer": "Understood.", "artifacts": [], "attachments": []}
        return [opening, *kept_turns(turns, TURNS - 1)]
    return kept_turns(turns)


class _Reader:
    """Reads messages one by one and gives every file a name of its own."""

    def __init__(self, files: Files):
        self.files = files
        self.names: dict[str, str] = {}  # name -> hash

    async def message(self, n: int, message: dict[str, Any]) -> _Said:
        """One message."""
        role = {"developer": "system"}.get(str(message.get("role")), message.get("role"))
        if role not in ("system", "user", "assistant"):
            said = f"A message of the role '{str(role)[:40]}' cannot be used here."
            raise Refused(400, said, param=f"messages.{n}.role")
        content = message.get("content")
        if isinstance(content, str) or content is None:
            content = [{"type": "text", "text": content or ""}]
        if not isinstance(content, list):
            raise Refused(400, "A message's content is a text or a list of parts.", param=f"messages.{n}.content")
        found = _Said(str(role), "", [])
        for m, part in enumerate(content):
            try:
                await self._part(part, found)
            except InputError as e:
                raise Refused(400, str(e), param=f"messages.{n}.content.{m}") from e
        return found

    async def _part(self, part: Any, said: _Said) -> None:
        kind = part.get("type") if isinstance(part, dict) else None
        value = part.get(kind) if isinstance(part, dict) and kind else None
        if kind in ("text", "refusal", "input_text", "output_text"):
            text = part.get("text", value)
            if not isinstance(text, str):
                raise InputError("A text part has no text.")
            said.text = "\n\n".join(t for t in (said.text, await self._linked(text, said)) if t)
            return
        if said.role != "user":
            raise InputError(f"A part of the type '{str(kind)[:40]}' can only be in a user's message.")
        if len(self.names) >= self.files.options.max_files:
            raise InputError(f"There are more than {self.files.options.max_files} files, which is the limit.")
        if kind in ("image_url", "audio_url", "video_url"):
            what, name = (value.get("url") if isinstance(value, dict) else value), kind.removesuffix("_url")
            said.files.append(await self._file(what, None, name))
        elif kind == "input_audio":
            said.files.append(await self._sound(value))
        elif kind == "file":
            said.files.append(await self._document(value))
        else:
            raise InputError(
                f"A part of the type '{str(kind)[:40]}' is not known; "
                "there are text, image_url, input_audio, video_url and file."
            )

    async def _sound(self, value: Any) -> Artifact:
        data = value.get("data") if isinstance(value, dict) else None
        if not isinstance(data, str):
            raise InputError("An input_audio part has 'data' in base64 and a 'format'.")
        given = str(value.get("format", "wav")).lower()
        if given not in FORMATS:
            raise InputError(f"The sound format '{given[:20]}' is not known; there are {', '.join(FORMATS)}.")
        if data[:5].lower() == "data:":
            return await self._file(data, None, "audio")
        return await self._file(decoded(data, self.files.store.limits, f"audio.{given}"), f"audio.{given}", "audio")

    async def _document(self, value: Any) -> Artifact:
        value = value if isinstance(value, dict) else {}
        name = value.get("filename") if isinstance(value.get("filename"), str) else None
        if isinstance(value.get("file_id"), str):
            found = await self.files.known(value["file_id"].removeprefix("file-"), name)
            return self._named(found)
        data = value.get("file_data")
        if not isinstance(data, str):
            raise InputError("A file part has 'file_data' (a data: URI or base64) or a 'file_id'.")
        if data[:5].lower() == "data:":
            return await self._file(data, name, "file")
        return await self._file(decoded(data, self.files.store.limits, name or "file"), name, "file")

    async def _file(self, what: Any, name: str | None, stem: str) -> Artifact:
        """A file of a message. Without a name it is called by its kind: image.png, audio.wav."""
        if not isinstance(what, bytes | str) or not what:
            raise InputError("A part names no content: a data: URI or an http(s) address is needed.")
        artifact = await self.files.take(what, name)
        inline = isinstance(what, bytes) or what[:5].lower() == "data:"
        if name is None and inline:
            kind = artifact.modality if stem == "file" else stem
            artifact = replace(artifact, name=kind + "".join(artifact.name.partition(".")[1:]))
        return self._named(artifact)

    async def _linked(self, text: str, said: _Said) -> str:
        """The text with our own addresses replaced by names; what they lead to goes with the message."""
        out, at = [], 0
        for match in LINK.finditer(text):
            sha, name = (match[3], match[4]) if match[2] else (match[6], match[7])
            try:
                artifact = self._named(await self.files.known(sha, name))
            except InputError:
                continue  # another service's, or no longer there: the address stays what it is
            if all(a.name != artifact.name for a in said.files):
                said.files.append(artifact)
            label = f"[{artifact.name}]({artifact.name})" if match[2] and said.role == "assistant" else artifact.name
            out += [text[at : match.start()], label]
            at = match.end()
        return "".join([*out, text[at:]])

    def _named(self, artifact: Artifact) -> Artifact:
        """The artifact under a name that no other content of the conversation has."""
        name = safe_name(artifact.name)
        for known, sha in self.names.items():
            if sha == artifact.sha256 and SUFFIX.sub("", known.rpartition(".")[0]) == name.rpartition(".")[0]:
                return replace(artifact, name=known)
        name = distinct(name, self.names)
        self.names[name] = artifact.sha256
        return replace(artifact, name=name)
