"""Every refusal as problem details (RFC 9457): which class gets which status, and the one shape they all have.

A problem never carries a stack trace or an internal message; an unforeseen error says only which request it was, and
the log holds the rest under the same id.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

import msgspec
from starlette.requests import HTTPConnection
from starlette.responses import Response

from tenuto.errors import (
    AlreadyDecided,
    BudgetExceeded,
    Conflict,
    Corrupt,
    Denied,
    Exhausted,
    Gone,
    Halted,
    Invalid,
    InvalidGraph,
    InvalidInput,
    KeyReused,
    Missing,
    Problem,
    StepError,
    TenutoError,
    Unavailable,
)
from tenuto.ports.artifacts import DepotFailed

MEDIA_TYPE = "application/problem+json"
log = logging.getLogger("tenuto.api")

# The first class of an error's ancestry found here decides.
STATUS: Mapping[type[TenutoError], int] = {
    InvalidGraph: 422,
    InvalidInput: 422,
    Invalid: 422,
    Missing: 404,
    Gone: 410,
    KeyReused: 409,
    AlreadyDecided: 409,
    Conflict: 409,
    Denied: 403,
    BudgetExceeded: 402,
    Exhausted: 429,
    DepotFailed: 503,
    StepError: 422,
    Corrupt: 500,
    Halted: 500,
    Unavailable: 503,
}


class Refused(TenutoError):
    """A request is refused at the edge, before any use case saw it.

    Attributes:
        status: HTTP status.
        headers: Added to the answer, such as `Allow`.
    """

    code: ClassVar[str] = "request.refused"

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ):
        """Keep the status, the code and what a person reads."""
        super().__init__(message, problems=tuple(problems), code=code, **details)
        self.status = status
        self.headers = dict(headers or {})


def status_of(error: TenutoError) -> int:
    """Return the HTTP status of an error; 500 for a class nobody placed."""
    if isinstance(error, Refused):
        return error.status
    return next((STATUS[cls] for cls in type(error).__mro__ if cls in STATUS), 500)


def document(error: TenutoError, *, request_id: str = "", instance: str = "") -> dict[str, Any]:
    """Return an error as a problem document: type, title, status, code, details, `errors`, the request's id."""
    status = status_of(error)
    body: dict[str, Any] = {key: value for key, value in error.details.items() if value is not None}
    body |= {
        "type": f"urn:tenuto:problem:{error.reason}",
        "title": error.message,
        "status": status,
        "code": error.reason,
    }
    details = [str(problem) for problem in error.problems]
    if details:
        body["detail"] = "; ".join(details[:5]) + (f"; and {len(details) - 5} more" if len(details) > 5 else "")
    body["errors"] = [
        {"place": item.place, "message": item.message, "hint": item.hint, "code": item.code or error.reason}
        for item in error.problems
    ]
    if error.retryable:
        body["retryable"] = True
    if instance:
        body["instance"] = instance
    if request_id:
        body["request_id"] = request_id
    return body


def response(error: TenutoError, connection: HTTPConnection | None = None) -> Response:
    """Return the answer that carries an error."""
    request_id = connection.scope.get("tenuto.request_id", "") if connection is not None else ""
    instance = connection.url.path if connection is not None else ""
    headers = dict(error.headers) if isinstance(error, Refused) else {}
    status = status_of(error)
    if (wait := error.details.get("retry_after_seconds")) is not None:
        headers.setdefault("Retry-After", str(wait))
    if status == 503:
        headers.setdefault("Retry-After", "2")
    body = msgspec.json.encode(document(error, request_id=request_id, instance=instance), enc_hook=str)
    return Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def unforeseen(connection: HTTPConnection, error: BaseException) -> Response:
    """Log an error nobody expected and return an answer that tells nothing of it but the request's id."""
    log.error("unforeseen error", exc_info=error)
    return response(
        Refused(500, "server.fault", "the server met an error of its own; its log has it under the request's id"),
        connection,
    )


def plain_status(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Refused:
    """Return the refusal for a status that the web framework decided on."""
    reasons = {
        400: "request.malformed",
        401: "auth.missing",
        403: "auth.denied",
        404: "route.unknown",
        405: "request.method",
        406: "request.accept",
        413: "request.too_large",
        415: "request.media_type",
        422: "request.invalid",
    }
    phrase = HTTPStatus(status).phrase
    message = detail if detail and detail != phrase else phrase.lower()
    return Refused(status, reasons.get(status, "request.refused"), message, headers=headers)
