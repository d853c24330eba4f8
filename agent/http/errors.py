"""Errors over HTTP: one sentence in OpenAI's shape, with the status code that fits.

    {"error": {"message": "…", "type": "invalid_request_error", "param": "messages", "code": null}}
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ...core.errors import AnyloomError, InputError, PlanError, SettingsError, UnknownName

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger(__name__)
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}


class Refused(Exception):
    """A refusal with everything that its answer needs. `param` and `code` are OpenAI's."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry: int | None = None
    ):
        message = "".join(c if c.isprintable() else " " for c in message)  # one line, whatever was quoted
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code or CODES.get(status)
        self.retry = retry

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the status."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        return {} if self.retry is None else {"Retry-After": str(self.retry)}

    @property
    def body(self) -> dict[str, Any]:
        """The answer as JSON."""
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def refusal(error: BaseException) -> Refused:
    """What an error comes to over HTTP. What is not ours is logged, and the client learns no details."""
    if isinstance(error, Refused):
        return error
    if isinstance(error, PlanError):
        return Refused(422, str(error), code="no_plan")
    if isinstance(error, UnknownName):
        return Refused(404, str(error))
    if isinstance(error, InputError | SettingsError):
        return Refused(400, str(error))
    if isinstance(error, AnyloomError):
        return Refused(500, str(error), code="failed")
    log.error("an unexpected error", exc_info=error)
    return Refused(500, f"An unexpected {type(error).__name__} stopped this; the server's log has the details.")


def install(app: FastAPI) -> None:
    """Makes every error of the app answer in this shape."""
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException

    def answer(refused: Refused, headers: Any = None) -> JSONResponse:
        return JSONResponse(refused.body, refused.status, {**(headers or {}), **refused.headers})

    @app.exception_handler(Refused)
    @app.exception_handler(AnyloomError)
    @app.exception_handler(Exception)
    async def ours(request: Any, error: Exception) -> JSONResponse:
        return answer(refusal(error))

    @app.exception_handler(HTTPException)
    async def of_starlette(request: Any, error: HTTPException) -> JSONResponse:
        words = {404: f"There is nothing at {request.url.path}.", 405: f"{request.method} is not possible here."}
        said = str(error.detail)
        if said in ("Not Found", "Method Not Allowed"):
            said = words.get(error.status_code, said)
        return answer(Refused(error.status_code, said), error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_the_body(request: Any, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first["loc"] if p != "body")
        if first["type"] == "json_invalid":
            return answer(Refused(400, "The body is no valid JSON."))
        place = f"'{where}'" if where else "The body"
        return answer(Refused(400, f"{place} cannot be used: {first['msg']}.", param=where or None))
