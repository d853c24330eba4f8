"""HuggingGPT's door, for its old clients: POST /hugginggpt, /tasks and /results.

    curl localhost:8000/hugginggpt -H 'Content-Type: application/json' \\
         -d '{"messages": [{"role": "user", "content": "describe https://example.org/cat.png"}]}'

The body is `{"messages": […]}`; keys and addresses of a language model that old clients send along
(`api_key`, `api_type`, `api_endpoint`) are not looked at and sent nowhere. `/hugginggpt` answers
`{"message": …}`, `/tasks` the plan as a list, `/results` what each task came to under its id; the
latter two answer `{"message": …}` where there is no plan, as the original did. Addresses of
pictures, sounds and videos that the last message names are fetched; paths are never opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request

from ...controller.files import MODALITY
from ...controller.plan import referenced
from ...core.artifacts import Artifact
from ...core.errors import AnyloomError
from ...graphs.state import Answer, Result
from . import schemas
from .chat import Links, _unless_gone
from .errors import Refused, refusal
from .messages import Asked, read
from .service import Service

ADDRESS = re.compile(
    r"https?://[^\s<>()\[\]\"'`]+?\.(?:"
    + "|".join(sorted(MODALITY, key=len, reverse=True))
    + r")(?![\w/])(?:\?[^\s<>()\"'`]*)?",
    re.I,
)


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["HuggingGPT"])

    @routes.post("/hugginggpt", summary="The whole way: an answer in words.", openapi_extra=schemas.OLD)
    async def whole(body: dict[str, Any], request: Request) -> dict[str, Any]:
        try:
            asked, answer = await _answered(body, request, service)
        except Exception as e:
            return _said(e)
        links = Links(lambda a: service.files.url(a, service.base(request)))
        links.add((*asked.attachments, *answer.artifacts))
        text = links.feed(answer.text) + links.flush()
        rest = [a for a in answer.artifacts if a.modality != "text" and a.name not in links.said]
        return {"message": text + "".join(f"\n\n{links.link(a.name, a.name)}" for a in rest)}

    @routes.post("/tasks", summary="The plan alone; nothing runs.", openapi_extra=schemas.OLD)
    async def tasks(body: dict[str, Any], request: Request) -> Any:
        try:
            asked = await _asked(body, service)
            wanted = service.request(asked.text, asked.attachments, {})
            async with service.jobs.ticket():
                checked = await service.engine.plan_only(wanted)
        except Exception as e:
            return _said(e)
        if not checked.plan:
            return {"message": "No task is needed for this; ask /hugginggpt for an answer."}
        return [_old(t) for t in checked.plan.to_json()]

    @routes.post("/results", summary="The plan, and what each task came to.", openapi_extra=schemas.OLD)
    async def results(body: dict[str, Any], request: Request) -> Any:
        try:
            _, answer = await _answered(body, request, service)
        except Exception as e:
            return _said(e)
        if not answer.plan:
            return {"message": answer.text}
        base = service.base(request)
        tasks = {t["id"]: t for t in answer.plan}
        return {str(r.id): _result(r, tasks[r.id], service, base) for r in answer.results}

    return routes


def _said(error: Exception) -> dict[str, Any]:
    """An error as a message, as old clients expect it. What HTTP must say (too many, too big) stays HTTP's."""
    refused = refusal(error)
    if isinstance(error, AnyloomError) and refused.status < 500:
        return {"message": refused.message}
    if refused.status in (400, 404, 422):
        return {"message": refused.message}
    raise refused


async def _answered(body: Mapping[str, Any], request: Request, service: Service) -> tuple[Asked, Answer]:
    asked = await _asked(body, service)
    job = service.jobs.start(service.request(asked.text, asked.attachments, {}), "hugginggpt", turns=asked.turns)
    return asked, await _unless_gone(request, service, job)


async def _asked(body: Mapping[str, Any], service: Service) -> Asked:
    """The messages, with the files behind the addresses that the last one names."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise Refused(400, "'messages' must be a list of messages.", param="messages")
    messages = [m for m in messages if m.get("role") in ("system", "user", "assistant")]
    asked = await read(messages, service.files)
    attached = {a.name: a for a in asked.attachments}
    for address in dict.fromkeys(ADDRESS.findall(asked.text)):
        if len(attached) >= service.options.max_files:
            break
        artifact = await service.files.take(address)
        attached[artifact.name] = artifact
        asked.text = asked.text.replace(address, artifact.name)
    asked.attachments = tuple(attached.values())
    return asked


def _old(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task with references as HuggingGPT's code writes them."""
    refs = {k: referenced(v) for k, v in task["args"].items()}
    args = {k: v if refs[k] is None else f"<GENERATED>-{refs[k]}" for k, v in task["args"].items()}
    return {"task": task["task"], "id": task["id"], "dep": task["dep"], "args": args}


def _result(result: Result, task: Mapping[str, Any], service: Service, base: str) -> dict[str, Any]:
    made: dict[str, str] = {}
    for artifact in result.artifacts:
        made.setdefault(f"generated {artifact.modality}", _content(artifact, service, base))
    if result.error:
        made = {"error": result.error}
    return {
        "task": _old(task),
        "inference result": made,
        "choose model result": {"id": result.expert, "reason": f"It performs {result.task} here."},
    }


def _content(artifact: Artifact, service: Service, base: str) -> str:
    return service.files.store.text(artifact) if artifact.modality == "text" else service.files.url(artifact, base)
