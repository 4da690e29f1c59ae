"""Posting a message, signed so that whoever gets it knows from whom it is and when it was sent.

Source:
    https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import binascii
import hmac
import os
from base64 import b64decode, b64encode
from pathlib import Path
from urllib.parse import urlsplit

from tenuto.errors import InvalidSettings, Permanent, StepError
from tenuto.runtime.notifications.channels import Webhook
from tenuto.runtime.tools.http import PORTS, HttpPolicy, request

PREFIX = "whsec_"
SHORTEST, LONGEST = 24, 64
ANSWER_BYTES = 1024 * 1024
GONE = 410


class WebhookRefused(Permanent):
    """The message was not posted, and will not be."""

    code = "webhook.refused"


class WebhookFailed(StepError):
    """The message may not have arrived."""

    code = "webhook.failed"


def secret_of(reference: str, name: str) -> bytes:
    """Return the secret a reference names.

    Raises:
        InvalidSettings: It is not there, or no secret.
    """
    kind, _, where = reference.partition(":")
    try:
        text = os.environ.get(where, "") if kind == "env" else Path(where).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSettings(f"notify.{name}: the file {where!r} cannot be read: {type(error).__name__}") from None
    try:
        secret = b64decode(text.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not SHORTEST <= len(secret) <= LONGEST:
        raise InvalidSettings(
            f"notify.{name}: {'the variable' if kind == 'env' else 'the file'} {where!r} holds no secret of a webhook; it reads "
            f"whsec_ followed by {SHORTEST} to {LONGEST} random bytes in base64"
        )
    return secret


def signed(secret: bytes, id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that say what a message is, when it was sent, and that it is from whoever has the secret."""
    mac = hmac.digest(secret, f"{id}.{timestamp}.".encode() + body, "sha256")
    return {"webhook-id": id, "webhook-timestamp": str(timestamp), "webhook-signature": "v1," + b64encode(mac).decode()}


async def post(
    way: Webhook, secret: bytes, policy: HttpPolicy, id: str, timestamp: int, body: bytes, *, timeout_s: float
) -> None:
    """Post a message; no redirect is followed, for the signature is for one receiver.

    Raises:
        WebhookRefused: Trying again cannot help.
        WebhookFailed: It can. Nothing told of either holds the address, which may be a secret.
    """
    url = os.environ.get(way.url.removeprefix("env:"), "") if way.url.startswith("env:") else way.url
    if not url:
        raise WebhookFailed(f"the environment variable {way.url.removeprefix('env:')} holds no address")
    allowed = policy.allowed | ({_host(url)} if way.internal else frozenset[str]())
    own = HttpPolicy(
        allowed=allowed, max_bytes=ANSWER_BYTES, timeout_s=timeout_s, longest_s=timeout_s * 2, resolve=policy.resolve
    )
    headers = {**signed(secret, id, timestamp, body), "content-type": "application/json", "user-agent": "tenuto"}
    try:
        await request("POST", {"url": url, "body": body.decode(), "headers": headers}, own, id, redirects=0)
    except StepError as exc:
        status = exc.details.get("status_code")
        if status == GONE or exc.reason in ("http.refused", "http.address_refused"):
            why = "is gone (410)" if status == GONE else "may not be posted to: it redirects, or is not public; see internal"
            raise WebhookRefused(f"the receiver {why}") from None
        raise WebhookFailed(f"the receiver answered {status}" if status else f"no answer ({exc.reason})") from None


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{(parts.hostname or '').lower()}:{parts.port or PORTS.get(parts.scheme, 0)}"
