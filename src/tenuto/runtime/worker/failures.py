"""What an exception of a step's code becomes in the journal: a code, a type, a sentence; never a stack trace."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tenuto.domain.runs.events import Failure
from tenuto.errors import StepError, TenutoError

LONGEST = 2000


class EffectFailed(StepError):
    """A step's status hook says that an attempt whose outcome was lost has failed."""

    code = "effect.failed"


class HookFailed(StepError):
    """A step's status hook could not say what became of an attempt; its outcome is still not known."""

    code = "hook.failed"


async def ask_hook(ask: Callable[[str, str], Awaitable[tuple[str, Any]]], hook: str, key: str) -> tuple[str, Any]:
    """Return what a status hook says became of a step: `succeeded` with its result, or `retry`.

    Raises:
        EffectFailed: It says that the step failed.
        HookFailed: It raised, or answered with something else.
    """
    try:
        resolution, value = await ask(hook, key)
    except Exception as exc:
        raise HookFailed(f"the status hook {hook!r} failed: {exc!r}", unknown=True) from exc
    if resolution == "failed":
        raise EffectFailed(str(value) if value else f"the status hook {hook!r} says that the step failed")
    if resolution not in ("succeeded", "retry"):
        allowed = "'succeeded', 'failed' or 'retry'"
        raise HookFailed(f"the status hook {hook!r} answered {resolution!r}, not {allowed}", unknown=True)
    return resolution, value


def describe(exc: BaseException) -> Failure:
    """Return an exception as a failure a person can read."""
    if isinstance(exc, TenutoError):
        found = exc.details.get("failure")
        if isinstance(found, Failure):
            return found
        return Failure(
            code=exc.reason, type=type(exc).__name__, message=_text(exc.message), retryable=exc.retryable,
            unknown=bool(exc.details.get("unknown")),
        )
    if isinstance(exc, (TypeError, ValueError)) and _is_encoding(exc):
        message = f"the step returned something with no JSON form: {exc}"
        return Failure(code="output.invalid", type=type(exc).__name__, message=_text(message), retryable=False)
    return Failure(code="step.failed", type=_text(type(exc).__name__), message=_text(_said(exc)))


def _said(exc: BaseException) -> str:
    try:
        return str(exc) or repr(exc)
    except Exception:
        return f"a {type(exc).__name__} that cannot be shown"


def _text(text: str) -> str:
    """Return text a journal can hold; half a character, as in a file name that is no UTF-8, becomes a question mark."""
    return text[:LONGEST].encode(errors="replace").decode()


def _is_encoding(exc: BaseException) -> bool:
    """Say whether an exception arose while a value was given its JSON form."""
    frame = exc.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_code.co_filename.endswith("values.py")
