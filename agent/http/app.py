"""The app: all doors over one engine.

    app = create_app(engine, ServeOptions(tokens=("…",)))       # for any ASGI server, one process
    app.state.service                                           # its jobs, line and metrics

The engine lives in the event loop of the server; at its end the app stops what runs and closes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import metadata
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, Response

from . import chat, hugginggpt, typed
from .errors import install
from .guard import Guard
from .options import ServeOptions
from .page import page
from .service import Service

if TYPE_CHECKING:
    from ...graphs.engine import Engine

ABOUT = "Any mix of text, pictures, sound and video in, any of them out."
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def create_app(engine: Engine, options: ServeOptions | None = None) -> FastAPI:
    """The app. InputError when the options would serve strangers without a token."""
    options = (options or ServeOptions()).checked()
    service = Service.over(engine, options)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await service.jobs.drain(options.grace)
            service.files.close()
            await engine.aclose()

    app = FastAPI(
        title="anyloom", version=metadata.version("anyloom"), description=ABOUT,
        docs_url=None, redoc_url=None, lifespan=life,
    )  # fmt: skip
    app.state.service = service
    install(app)
    for door in (chat, typed, hugginggpt):
        app.include_router(door.router(service))
    _service_routes(app, service)
    _describe(app, bool(options.tokens))
    app.add_middleware(Guard, options=options, files=service.files, metrics=service.metrics)
    if options.cors:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(options.cors), allow_methods=["*"], allow_headers=["*"],
            expose_headers=["Retry-After", "Location"],
        )  # fmt: skip
    return app


def _service_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["service"], summary="Whether it takes requests, and how busy it is.")
    @app.get("/health/ready", include_in_schema=False)
    async def ready() -> JSONResponse:
        line, draining = service.line, service.jobs.draining
        state = {"status": "ending" if draining else "ready", "running": line.running, "queued": line.waiting}
        return JSONResponse(state, 503 if draining else 200)

    @app.get("/health/live", tags=["service"], summary="Whether it answers at all.")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/metrics", tags=["service"], summary="Figures for Prometheus.")
    async def metrics() -> Response:
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        text = page(app.openapi(), service.base(request), bool(service.options.tokens))
        return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})


def _describe(app: FastAPI, token: bool) -> None:
    """The OpenAPI document says what is true here: errors have our own shape, and a token may be needed."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        schema = made()
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        parts = schema.setdefault("components", {})
        parts.pop("schemas", None)
        if token:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            schema["security"] = [{"token": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to change it


def service_of(app: Any) -> Service:
    """The service behind an app."""
    found: Service = app.state.service
    return found
