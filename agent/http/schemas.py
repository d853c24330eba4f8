"""Request bodies for the OpenAPI document. They describe; the doors themselves check, in words of their own."""

from __future__ import annotations

from typing import Any


def _body(schema: dict[str, Any], form: dict[str, Any] | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": schema}} if schema else {}
    if form:
        content["multipart/form-data"] = {"schema": form}
    return {"requestBody": {"required": True, "content": content}}


def _object(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": required, "properties": properties}


TEXT = {"type": "string"}
NUMBER = {"type": "integer"}
SWITCH = {"type": "boolean"}
FILE = {"type": "string", "format": "binary"}
MESSAGES = {
    "type": "array",
    "description": "The conversation; the last message is the request. Parts: text, image_url, input_audio, "
    "video_url, file (file_data or file_id).",
    "items": _object(["role", "content"], role=TEXT, content={"anyOf": [TEXT, {"type": "array", "items": {}}]}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "mode": {**TEXT, "description": "Which graph answers: cascade."},
    "seed": {**NUMBER, "description": "Seed of everything random."},
    "approve": {**SWITCH, "description": "Wait for a decision before the plan runs."},
    "policy": {**TEXT, "enum": ["fastest", "best", "pinned", "llm"], "description": "How an expert is chosen."},
    "pinned": {"type": "object", "additionalProperties": TEXT, "description": "Tool to expert."},
    "max_seconds": {"type": "number", "description": "Bounds the time for all tasks."},
    "fresh": {**SWITCH, "description": "Run every task even where its result is known."},
    "steps": {"type": "object", "description": "Expert or seed of single tasks, by id."},
}
EXTENSION = {
    "type": "object",
    "description": "Options of a request; `events: true` puts typed events into a stream.",
    "properties": {k: v for k, v in OPTIONS.items() if k not in ("mode", "seed", "approve")} | {"events": SWITCH},
}
CHAT = _body(
    _object(
        ["model", "messages"], model={**TEXT, "example": "anyloom"}, messages=MESSAGES, stream=SWITCH,
        stream_options=_object([], include_usage=SWITCH), seed=NUMBER, anyloom=EXTENSION,
    )
)  # fmt: skip
_WORDS = {"text": {**TEXT, "description": "What should be done."}, "thread": {**TEXT, "description": "Conversation."}}
ATTACHMENTS = {
    "type": "array", "items": TEXT, "description": "data: URIs, http(s) addresses, or ids of uploads or artifacts.",
}  # fmt: skip
FILES = {"type": "array", "items": FILE, "description": "Files to go with the request."}
REQUEST = _body(
    _object(["text"], **_WORDS, attachments=ATTACHMENTS, **OPTIONS),
    _object(["text"], **_WORDS, files=FILES, attachments=ATTACHMENTS, **OPTIONS),
)
UPLOAD = _body({}, _object(["file"], file=FILE, purpose=TEXT))
DECISION = _body(
    {
        "anyOf": [
            _object(["approve"], approve=SWITCH),
            _object(["drop"], drop={"type": "array", "items": NUMBER, "description": "Tasks to leave out."}),
            _object(["plan"], plan={"type": "array", "items": {"type": "object"}, "description": "An edited plan."}),
        ]
    }
)
OLD = _body(_object(["messages"], messages=MESSAGES))
