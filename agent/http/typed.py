"""anyloom's own door: requests as resources with a stream of typed events, files, artifacts, tools.

    POST /v1/requests                 begin; JSON, or a form with files
    GET  /v1/requests/{id}            where it is
    GET  /v1/requests/{id}/events     what happens, from the start or after Last-Event-ID (server-sent events)
    POST /v1/requests/{id}/cancel|approve|resume
    POST /v1/files                    upload
    GET  /v1/artifacts/{sha256}       content
    GET  /v1/tools                    what can be planned

A request goes on when nobody watches it.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from ...core.artifacts import Artifact
from ...core.errors import InputError, PlanError
from ...graphs.engine import checked_thread
from ..intake import distinct
from . import schemas
from .errors import Refused
from .jobs import Job
from .service import Service

FIELDS = 64
FIELD_BYTES = 4 * 2**20
NO_STORE = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
POLICY = "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'"


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["anyloom"])
    _requests(routes, service)
    _decisions(routes, service)
    _content(routes, service)
    return routes


def _requests(routes: APIRouter, service: Service) -> None:
    @routes.post("/v1/requests", status_code=202, summary="Begin a request.", openapi_extra=schemas.REQUEST)
    async def begin(request: Request) -> JSONResponse:
        """JSON or form fields: text, attachments (data: URIs, addresses, file ids), files (form), thread, options."""
        given = await _body(request, service.options.max_files)
        base = service.base(request)
        job = await _begun(service, given)
        headers = {"Location": f"{base}v1/requests/{job.id}"}
        return JSONResponse(service.job(job, base), 202, headers)

    @routes.get("/v1/requests/{name}", summary="Where a request is.")
    async def look(name: str, request: Request) -> dict[str, Any]:
        return service.job(await service.jobs.get(name), service.base(request))

    @routes.get("/v1/requests/{name}/events", summary="What happens, as server-sent events.")
    async def events(
        name: str,
        last_event_id: str = Header("", alias="Last-Event-ID"),
        after: int = Query(-1, description="Like Last-Event-ID, for clients that cannot set headers."),
    ) -> StreamingResponse:
        job = await service.jobs.get(name)
        start = int(last_event_id) if last_event_id.strip().isdecimal() else after
        lines = _lines(job, max(-1, start), service.options.heartbeat)
        return StreamingResponse(lines, media_type="text/event-stream", headers=NO_STORE)


async def _lines(job: Job, after: int, beat: float) -> AsyncIterator[str]:
    async for index, event in job.follow(after, beat):
        if event is None:
            yield ": still at it\n\n"
        else:
            yield f"id: {index}\nevent: {event['event']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"


def _decisions(routes: APIRouter, service: Service) -> None:
    @routes.post("/v1/requests/{name}/cancel", summary="Stop a request; what was finished stays finished.")
    async def cancel(name: str, request: Request) -> dict[str, Any]:
        job = await service.jobs.get(name)
        service.jobs.cancel(job)
        if job.task is not None:
            async for _, event in job.follow(len(job.events) - 1, beat=5.0):  # until it is stopped, or for a moment
                if event is None or job.over:
                    break
        return service.job(job, service.base(request))

    @routes.post(
        "/v1/requests/{name}/approve", status_code=202, summary="Decide about a plan that waits.",
        openapi_extra=schemas.DECISION,
    )
    async def approve(name: str, body: dict[str, Any], request: Request) -> dict[str, Any]:
        """One of `{"approve": true}`, `{"approve": false}`, `{"drop": [ids]}` and `{"plan": [tasks]}`."""
        job = await service.jobs.get(name)
        await service.jobs.go_on(job, **_decision(body))
        return service.job(job, service.base(request))

    @routes.post("/v1/requests/{name}/resume", status_code=202, summary="Go on with what was stopped or failed.")
    async def resume(name: str, request: Request) -> dict[str, Any]:
        job = await service.jobs.get(name)
        await service.jobs.go_on(job)
        return service.job(job, service.base(request))


def _decision(body: Mapping[str, Any]) -> dict[str, Any]:
    from ...controller.plan import Plan

    if list(body) == ["approve"] and isinstance(body["approve"], bool):
        return {"approve": body["approve"]}
    drop = body.get("drop")
    if list(body) == ["drop"] and isinstance(drop, list) and drop and all(type(i) is int for i in drop):
        return {"drop": drop}
    if list(body) == ["plan"]:
        try:
            return {"plan": Plan.parse(body["plan"]).to_json()}
        except PlanError as e:
            raise Refused(422, str(e), param="plan", code="no_plan") from e
    known = '{"approve": true}, {"approve": false}, {"drop": [ids]} and {"plan": [tasks]}'
    raise Refused(400, f"A decision is one of {known}.")


def _content(routes: APIRouter, service: Service) -> None:
    @routes.post("/v1/files", summary="Upload a file, to be attached by its id.", openapi_extra=schemas.UPLOAD)
    async def upload(request: Request) -> dict[str, Any]:
        given = await _body(request, service.options.max_files)
        files = [(name, data) for name, data in given.pop("files", [])]
        if len(files) != 1:
            raise InputError(f"An upload is a form with one file, and this has {len(files)}.")
        (name, data) = files[0]
        return _file(await service.files.take(data, name), service, service.base(request))

    @routes.get("/v1/files/{name}", summary="What is known of an upload.")
    async def file(name: str, request: Request) -> dict[str, Any]:
        artifact = await service.files.known(name.removeprefix("file-"))
        return _file(artifact, service, service.base(request))

    @routes.get("/v1/artifacts/{sha256}", summary="The content of an artifact.")
    @routes.get("/v1/artifacts/{sha256}/{name}", include_in_schema=False)
    @routes.head("/v1/artifacts/{sha256}", include_in_schema=False)
    @routes.head("/v1/artifacts/{sha256}/{name}", include_in_schema=False)
    async def artifact(sha256: str, name: str = "") -> Response:
        try:
            found = await service.files.known(sha256, name or None)
            path = service.files.store.path(found)
        except InputError as e:
            raise Refused(404, str(e)) from e
        return _sent(found, str(path))

    @routes.get("/v1/tools", summary="What the controller may plan, and who performs it.")
    async def tools() -> dict[str, Any]:
        registry = service.engine.runtime.registry
        data = [
            {
                "name": t.name,
                "description": t.description,
                "signature": t.signature(),
                "params": [
                    {"name": p.name, "modality": p.modality, "required": p.required, "description": p.description}
                    for p in t.params
                ],
                "output": t.output,
                "experts": [e.name for e in registry.experts(t.name)],
            }
            for t in registry.offered()
        ]
        return {"object": "list", "data": data}


def _file(artifact: Artifact, service: Service, base: str) -> dict[str, Any]:
    """In OpenAI's form, and the artifact."""
    return {
        "id": f"file-{artifact.sha256}",
        "object": "file",
        "bytes": artifact.size,
        "created_at": int(time.time()),
        "filename": artifact.name,
        "purpose": "user_data",
        "status": "processed",
        "artifact": service.shown(artifact, base),
    }


def _sent(artifact: Artifact, path: str) -> Response:
    """The file, so that no browser takes it for anything but what it is. Ranges are answered."""
    shown = artifact.modality != "text"
    headers = {
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": POLICY,
        "Cache-Control": "private, max-age=31536000, immutable",
        "ETag": f'"{artifact.sha256}"',
    }
    kind = artifact.media_type if shown else f"{artifact.media_type}; charset=utf-8"
    place = "inline" if shown else "attachment"
    return FileResponse(path, headers=headers, media_type=kind, filename=artifact.name, content_disposition_type=place)


async def _begun(service: Service, given: dict[str, Any]) -> Job:
    """A job out of a body."""
    text, thread = given.pop("text", ""), given.pop("thread", None)
    attached, files = given.pop("attachments", None) or [], given.pop("files", [])
    if not isinstance(text, str) or not isinstance(thread, str | None):
        raise InputError("'text' and 'thread' must be texts.")
    if not isinstance(attached, list) or not all(isinstance(a, str | dict) for a in attached):
        raise InputError("'attachments' must be a list of data: URIs, http(s) addresses or file ids.")
    if len(attached) + len(files) > service.options.max_files:
        raise InputError(f"There are more than {service.options.max_files} files, which is the limit.")
    service.request(text or " x", (), given)  # what is wrong with the options is said before files are fetched
    found: dict[str, Artifact] = {}
    for artifact in [
        *[await service.files.take(data, name) for name, data in files],
        *[await _attached(service, a) for a in attached],
    ]:
        name = distinct(artifact.name, found)
        found[name] = replace(artifact, name=name)
    request = service.request(text, tuple(found.values()), given)
    return service.jobs.start(request, "requests", thread=checked_thread(thread) if thread else None)


async def _attached(service: Service, what: str | dict[str, Any]) -> Artifact:
    """A data: URI, an address, or the id of an upload or artifact; or {"url" or "id": …, "name": …}."""
    name = None
    if isinstance(what, dict):
        name, what = what.get("name"), str(what.get("url") or what.get("id") or "")
        if not isinstance(name, str | None):
            raise InputError("The name of an attachment must be a text.")
    bare = what.removeprefix("file-")
    if len(bare) == 64 and bare.isalnum():
        return await service.files.known(bare.lower(), name)
    return await service.files.take(what, name)


async def _body(request: Request, max_files: int) -> dict[str, Any]:
    """JSON, or a form whose files are listed as `files` and whose other fields are read as JSON where they are it."""
    kind = request.headers.get("content-type", "").lower()
    if kind.startswith("multipart/form-data"):
        return await _form(request, max_files)
    if not kind.startswith("application/json"):
        raise Refused(415, "The body must be application/json or multipart/form-data.")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as e:
        raise InputError("The body is no valid JSON.") from e
    if not isinstance(body, dict):
        raise InputError("The body must be a JSON object.")
    body.pop("files", None)
    return body


async def _form(request: Request, max_files: int) -> dict[str, Any]:
    from starlette.datastructures import UploadFile

    body: dict[str, Any] = {}
    files: list[tuple[str, bytes]] = []
    async with request.form(max_files=max_files, max_fields=FIELDS, max_part_size=FIELD_BYTES) as form:
        for field, value in form.multi_items():
            if isinstance(value, UploadFile):
                files.append((value.filename or "file", await value.read()))
            elif field == "attachments":
                body.setdefault("attachments", []).append(value)
            else:
                body[field] = value if field in ("text", "thread", "purpose", "mode", "policy") else _parsed(value)
    return {**body, "files": files}


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
