"""What a provider's failure means, in the words of our own models: worth another try, final, or not known."""

from __future__ import annotations

from tenuto.errors import StepError
from tenuto.ports.model import ModelBusy, ModelCut, ModelRefused, ModelUnreachable, PromptTooLong

try:
    from pydantic_ai.exceptions import (
        FallbackExceptionGroup,
        ModelAPIError,
        ModelConnectionError,
        ModelContextWindowExceededError,
        ModelHTTPError,
        ModelQuotaExceededError,
        ModelRateLimitError,
        ModelRequestRejectedError,
        ModelRequestTimeout,
        ModelServerError,
        ModelUnavailableError,
    )
except ImportError as error:
    raise ImportError("pydantic-ai is not installed; install the extra: pip install 'tenuto[pydantic-ai]'") from error

PASSING = (ModelBusy, ModelUnreachable, ModelCut)
_UNSENT = ("pool", "connect")
_BUSY = (ModelRateLimitError, ModelUnavailableError, ModelServerError)
_FINAL = (ModelRequestRejectedError, ModelQuotaExceededError)


def failure_of(exc: ModelAPIError | FallbackExceptionGroup) -> StepError:
    """Return what a request's failure means.

    A request that was sent and never wholly answered may have been served: what was reserved for it stays reserved.
    """
    if isinstance(exc, FallbackExceptionGroup):
        found = [failure_of(each) for each in exc.exceptions if isinstance(each, ModelAPIError)]
        cut = [each for each in found if isinstance(each, ModelCut)]
        passing = [each for each in found if isinstance(each, PASSING)]
        return [*cut, *passing, *found, ModelRefused(exc.message)][0]
    if exc.in_stream or isinstance(exc, ModelRequestTimeout):
        return ModelCut(_said(exc), unknown=True)
    if isinstance(exc, ModelConnectionError):
        unsent = exc.phase in _UNSENT
        return ModelUnreachable(_said(exc)) if unsent else ModelCut(_said(exc), unknown=True)
    if isinstance(exc, ModelContextWindowExceededError):
        return PromptTooLong(_said(exc))
    if isinstance(exc, _FINAL):
        return ModelRefused(_said(exc))
    if isinstance(exc, _BUSY) or not isinstance(exc, ModelHTTPError) or exc.status_code >= 500:
        return ModelBusy(_said(exc), retry_after_s=exc.retry_after)
    return ModelRefused(_said(exc))


def _said(exc: ModelAPIError) -> str:
    """Return who said what, without the body of the answer: providers repeat prompts, and keys, in it."""
    status = f" with status {exc.status_code}" if isinstance(exc, ModelHTTPError) else ""
    code = exc.provider_error_code or exc.provider_error_type
    return f"the provider of {exc.model_name} failed{status}: {type(exc).__name__}" + (f" ({code})" if code else "")
