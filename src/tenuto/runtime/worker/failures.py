"""What an exception of a step's code becomes in the journal: a code, a type, a sentence; never a stack trace."""

from __future__ import annotations

from tenuto.domain.runs.events import Failure
from tenuto.errors import TenutoError

LONGEST = 2000


def describe(exc: BaseException) -> Failure:
    """Return an exception as a failure a person can read."""
    if isinstance(exc, TenutoError):
        found = exc.details.get("failure")
        if isinstance(found, Failure):
            return found
        return Failure(
            code=exc.reason, type=type(exc).__name__, message=exc.message[:LONGEST], retryable=exc.retryable,
            unknown=bool(exc.details.get("unknown")),
        )
    if isinstance(exc, (TypeError, ValueError)) and _is_encoding(exc):
        message = f"the step returned something with no JSON form: {exc}"
        return Failure(code="output.invalid", type=type(exc).__name__, message=message[:LONGEST], retryable=False)
    return Failure(code="step.failed", type=type(exc).__name__, message=(str(exc) or repr(exc))[:LONGEST])


def _is_encoding(exc: BaseException) -> bool:
    """Say whether an exception arose while a value was given its JSON form."""
    frame = exc.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_code.co_filename.endswith("values.py")
