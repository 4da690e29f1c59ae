"""What went wrong at a provider, in the words of the model port: definite or unknown, passing or for good."""

from __future__ import annotations

from typing import Any, NoReturn, cast

from pydantic_ai import exceptions as lib

from tenuto.adapters.models.provider.complaints import NotSent
from tenuto.errors import StepError
from tenuto.ports.model import (
    ModelBusy,
    ModelCut,
    ModelRefused,
    PromptTooLong,
)
from tenuto.ports.providers import Provider

LONGEST = 500
_PASSING = frozenset({408, 409, 425, 429})


def raise_from(error: lib.AgentRunError, provider: Provider, model: str, secret: str) -> NoReturn:
    """Raise what the caller must know; the provider's words are kept, without the key.

    Raises:
        NotSent: The request was not made.
        StepError: It was, and failed.
    """
    name = f"{provider.name}:{model}"
    if isinstance(error, lib.ModelConnectionError) and error.phase in ("pool", "connect"):
        raise NotSent(_clean(_said(error), secret)) from None
    if isinstance(error, lib.ModelHTTPError) and not error.in_stream:
        raise _refused(error, provider, name, secret) from None
    if isinstance(error, lib.ModelContextWindowExceededError):
        raise PromptTooLong(f"the prompt does not fit the window of {name}") from None
    status = getattr(error.__cause__, "status_code", 0)
    if 300 <= status < 400:
        raise ModelRefused(
            f"{name} sends requests elsewhere (status {status}), where neither the prompt nor the key goes; "
            f"set providers.{provider.name}.base_urls to the address that serves", status=status,
        ) from None
    said = _clean(_said(error), secret)
    raise ModelCut(
        f"the answer of {name} broke off: {said}; it may have been served, and cost its price", unknown=True
    ) from None


def _refused(error: lib.ModelHTTPError, provider: Provider, name: str, secret: str) -> StepError:
    said = _clean(_said(error), secret)
    status = error.status_code
    if isinstance(error, lib.ModelContextWindowExceededError):
        return PromptTooLong(f"the prompt does not fit the window of {name}: {said}")
    passing = status in _PASSING or status >= 500
    if isinstance(error, lib.ModelQuotaExceededError):
        passing = False
    if passing:
        wait: dict[str, Any] = {} if error.retry_after is None else {"retry_after_s": error.retry_after}
        return ModelBusy(f"{name} asks to come back later (status {status}): {said}", status=status, local=provider.local, **wait)
    hint = f"; the key comes from {provider.key_env}" if status in (401, 403) and provider.key_env else ""
    return ModelRefused(f"{name} refuses the request (status {status}): {said}{hint}", status=status)


def _said(error: lib.AgentRunError) -> str:
    body: Any = getattr(error, "body", None)
    for _ in range(2):
        if isinstance(body, dict):
            fields = cast("dict[str, Any]", body)
            body = fields.get("message") or fields.get("error") or fields
    if isinstance(body, str) and body:
        return body
    root: BaseException = error
    while (cause := root.__cause__) is not None:  # the clients say "Connection error."; what lies below says which
        root = cause
    return str(root) or type(root).__name__


def _clean(text: str, secret: str) -> str:
    if secret:
        text = text.replace(secret, "***")
    return " ".join(text.split())[:LONGEST]
