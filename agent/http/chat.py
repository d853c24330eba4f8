"""OpenAI's door: POST /v1/chat/completions and GET /v1/models, for any client of that API.

The answer's content names files by link; the field `anyloom` beside the choices holds the plan, the
artifacts and the run. Parameters that steer a language model's sampling are accepted and have no
effect; those that would change what an answer is (`tools`, `n`, ...) are refused, as are unknown
ones. Options of a request (`policy`, `pinned`, `max_seconds`, `fresh`, ...) go into `anyloom`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse

from ...core.artifacts import Artifact
from ...core.errors import AnyloomError
from ...graphs.state import Answer
from . import schemas
from .errors import Refused, refusal
from .jobs import Job
from .messages import Asked, read
from .service import Service

NO_EFFECT = frozenset((
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty",
    "logit_bias", "stop", "user", "store", "metadata", "service_tier", "reasoning_effort", "verbosity",
    "parallel_tool_calls", "prediction", "safety_identifier", "modalities", "prompt_cache_key",
    "prompt_cache_retention", "top_k", "min_p", "repetition_penalty",
))  # fmt: skip
OWN = frozenset(("model", "messages", "stream", "stream_options", "seed", "anyloom"))
# Refused unless they have a value that changes nothing.
HARMLESS: dict[str, tuple[Any, ...]] = {
    "n": (None, 1), "logprobs": (None, False), "top_logprobs": (None, 0), "tools": (None, []), "functions": (None, []),
    "tool_choice": (None, "none", "auto"), "function_call": (None, "none", "auto"), "audio": (None,),
    "response_format": (None, {"type": "text"}), "web_search_options": (None,),
}  # fmt: skip
HOLD = 400  # characters of an unfinished link that are held back


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["OpenAI"])

    @routes.get("/v1/models", summary="The models: one for each way to answer.")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(name) for name in service.models()]}

    @routes.get("/v1/models/{name}", summary="One model.")
    async def model(name: str) -> dict[str, Any]:
        service.model(name)
        return _model(name)

    @routes.post(
        "/v1/chat/completions", summary="A conversation in, an answer out; streamed where that is asked for.",
        openapi_extra=schemas.CHAT,
    )
    async def completions(body: dict[str, Any], request: Request) -> Any:
        mode, options = _checked(body, service)
        asked = await read(body["messages"], service.files)
        job = service.jobs.start(
            service.request(asked.text, asked.attachments, {**options, "mode": mode}), "chat", turns=asked.turns
        )
        reply = Reply(service, job, body, service.base(request))
        if body.get("stream"):
            headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
            return StreamingResponse(reply.stream(asked), media_type="text/event-stream", headers=headers)
        answer = await _unless_gone(request, service, job)
        return JSONResponse(reply.whole(answer, asked))

    return routes


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1767225600, "owned_by": "anyloom"}


def _checked(body: Mapping[str, Any], service: Service) -> tuple[str, dict[str, Any]]:
    """Mode and options; Refused names the parameter that cannot be used."""
    if not isinstance(body.get("model"), str):
        raise Refused(400, "You must provide a model parameter.", param="model")
    mode = service.model(body["model"])
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise Refused(400, "'messages' must be a list of messages with at least one in it.", param="messages")
    for name, value in body.items():
        if name in HARMLESS:
            if value not in HARMLESS[name]:
                raise Refused(400, f"'{name}' is not supported here.", param=name, code="unsupported_parameter")
        elif name not in OWN | NO_EFFECT:
            raise Refused(400, f"Unrecognized request argument supplied: {name[:60]}", param=name[:60])
    for name, kind in (("stream", bool), ("stream_options", dict), ("anyloom", dict), ("seed", int)):
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise Refused(400, f"'{name}' must be of the type {kind.__name__}.", param=name)
    options = body.get("anyloom") or {}
    options = {k: v for k, v in options.items() if k != "events"}
    if options.get("approve"):
        raise Refused(400, "A plan cannot be approved in a chat completion; use POST /v1/requests.", param="anyloom")
    if body.get("seed") is not None:
        options["seed"] = body["seed"] % 2**31
    return mode, options


async def _unless_gone(request: Request, service: Service, job: Job) -> Answer:
    """The answer; the job is stopped when the client goes away before."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watch = asyncio.create_task(gone())
    work = asyncio.create_task(job.outcome())
    try:
        await asyncio.wait((watch, work), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        raise Refused(499, "The client went away, so the request was stopped.")
    finally:
        watch.cancel()
        work.cancel()
        _stop(service, job)


def _stop(service: Service, job: Job) -> None:
    if not job.over:
        with contextlib.suppress(Refused):
            service.jobs.cancel(job)


class Reply:
    """One completion, whole or in pieces."""

    def __init__(self, service: Service, job: Job, body: Mapping[str, Any], base: str):
        self.service = service
        self.job = job
        self.base = base
        self.model = body["model"]
        self.usage_wanted = bool((body.get("stream_options") or {}).get("include_usage"))
        self.events_wanted = bool((body.get("anyloom") or {}).get("events"))
        self.created = int(time.time())

    def whole(self, answer: Answer, asked: Asked) -> dict[str, Any]:
        """The completion as one object."""
        links = self._links((*asked.attachments, *answer.artifacts))
        text = links.feed(answer.text) + links.flush()
        message = {"role": "assistant", "content": text + self._rest(links, answer), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {
            **self._head("chat.completion"), "choices": [choice], "usage": _usage(answer),
            "anyloom": self._more(answer),
        }  # fmt: skip

    async def stream(self, asked: Asked) -> AsyncIterator[str]:
        """The completion as server-sent events. When the client goes away the job is stopped."""
        links = self._links(asked.attachments)
        try:
            yield self._chunk({"role": "assistant", "content": ""})
            async for _, event in self.job.follow(beat=self.service.options.heartbeat):
                if event is None:
                    yield ": still at it\n\n"
                    continue
                if event["event"] == "task_done":
                    links.add([Artifact.from_json(a) for a in event["artifacts"]])
                if event["event"] == "answer_text" and (shown := links.feed(event["text"])):
                    yield self._chunk({"content": shown})
                elif self.events_wanted and event["event"] not in ("answer_text", "answer_done"):
                    yield self._chunk({}, anyloom={"event": event})
            try:
                answer = await self.job.outcome()
            except (Refused, AnyloomError) as e:
                yield f"data: {json.dumps(refusal(e).body, ensure_ascii=False)}\n\n"
                return
            if rest := links.flush() + self._rest(links, answer):
                yield self._chunk({"content": rest})
            yield self._chunk({}, finish="stop", anyloom=self._more(answer))
            if self.usage_wanted:
                yield _data({**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(answer)})
            yield "data: [DONE]\n\n"
        finally:
            _stop(self.service, self.job)

    def _links(self, artifacts: Sequence[Artifact]) -> Links:
        links = Links(lambda artifact: self.service.files.url(artifact, self.base))
        links.add(artifacts)
        return links

    @staticmethod
    def _rest(links: Links, answer: Answer) -> str:
        """Links to what was made and is not linked in the text."""
        links.add(answer.artifacts)  # some have their last name only now
        new = [a.name for a in answer.artifacts if a.modality != "text" and a.name not in links.said]
        return "".join(f"\n\n{links.link(name, name)}" for name in new)

    def _more(self, answer: Answer) -> dict[str, Any]:
        data = self.service.answered(answer, self.base)
        keys = ("run", "thread", "ok", "plan", "bridges", "artifacts", "results", "costs")
        return {k: data[k] for k in keys}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.job.id}", "object": kind, "created": self.created, "model": self.model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**self._head("chat.completion.chunk"), "choices": [choice], **more})


class Links:
    """Turns links to names into links to addresses, in a text that comes in pieces."""

    _WHOLE = re.compile(r"(!?)\[([^\[\]\n]*)\]\(([^()\n]*)\)")

    def __init__(self, url: Callable[[Artifact], str]):
        self.said: set[str] = set()
        self._url = url
        self._urls: dict[str, str] = {}
        self._images: set[str] = set()
        self._held = ""

    def add(self, artifacts: Sequence[Artifact]) -> None:
        """Names that may be linked from now on."""
        self._urls |= {a.name: self._url(a) for a in artifacts}
        self._images |= {a.name for a in artifacts if a.modality == "image"}

    def link(self, name: str, label: str) -> str:
        """A link; a picture is shown."""
        return f"{'!' if name in self._images else ''}[{label}]({self._urls[name]})"

    def feed(self, piece: str) -> str:
        """What can be shown; the beginning of a link is held back until its end is there."""
        text = self._held + piece
        start = text.rfind("[")
        open_link = start >= 0 and not self._WHOLE.match(text, start) and "\n" not in text[start:]
        if open_link and len(text) - start <= HOLD and not re.match(r"\[[^\[\]]*\][^(]", text[start:]):
            start -= 1 if text[:start].endswith("!") else 0
            text, self._held = text[:start], text[start:]
        elif text.endswith("!"):
            text, self._held = text[:-1], "!"
        else:
            self._held = ""
        return self._WHOLE.sub(self._turned, text)

    def flush(self) -> str:
        """The rest."""
        text, self._held = self._held, ""
        return self._WHOLE.sub(self._turned, text)

    def _turned(self, match: re.Match[str]) -> str:
        name = match[3].strip()
        if name not in self._urls:
            return match[0]
        self.said.add(name)
        return self.link(name, match[2])


def _usage(answer: Answer) -> dict[str, int]:
    """What the controller counted; experts are no language models and count nothing."""
    costs = answer.costs
    read_in = int(costs.get("input_tokens", 0))
    written = int(costs.get("output_tokens", costs.get("plan_tokens", 0)))
    return {"prompt_tokens": read_in, "completion_tokens": written, "total_tokens": read_in + written}


def _data(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
