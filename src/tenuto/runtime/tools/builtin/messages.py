"""`send_email` and `slack_message`: to destinations an operator has set up, once for a call.

A connection that breaks while a message is handed over leaves its fate unknown; it is not sent again on a guess, a
person is asked. An e-mail's Message-ID derives from the call's key, so that a repeat is seen as the same message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from tenuto.errors import StepError
from tenuto.runtime.tools.builtin.kit import Kit, ToolNotSetUp, declare, text
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.http import request
from tenuto.runtime.tools.mail import MailNotSetUp, MessageFailed, MessageRefused, compose, send

MAX_RECIPIENTS = 50


def _send(
    kit: Kit, info: CallInfo, to: list[str], subject: str, body: str, reply_to: str = ""
) -> dict[str, Any]:
    if kit.mail is None:
        raise ToolNotSetUp("send_email has no server; set mail.host and mail.sender in the settings")
    message = compose(kit.mail, to, subject, body, key=info.key, reply_to=reply_to)
    try:
        send(kit.mail, message, to)
    except MailNotSetUp as exc:
        raise ToolNotSetUp(f"send_email is not set up: {exc}") from None
    return {"message_id": str(message["Message-ID"]), "to": to}


async def _slack(kit: Kit, info: CallInfo, destination: str, message: str) -> dict[str, Any]:
    variable = _destination(kit.slack, destination)
    url = os.environ.get(variable, "")
    if not url:
        raise ToolNotSetUp(f"the environment variable {variable}, which holds the address of {destination!r}, is not set")
    try:
        answer = await request("POST", {"url": url, "body": {"text": message}}, kit.http, info.key)
    except StepError as exc:
        # The address is a secret, so nothing of what was said about it is passed on.
        unknown = bool(exc.details.get("unknown"))
        told = "it may have been sent" if unknown else "it was not sent"
        code = exc.details.get("status_code")
        status = f" answered {code}" if code else " could not be reached or asked"
        if exc.retryable:
            raise MessageFailed(f"Slack destination {destination!r}{status}; {told}", unknown=unknown) from None
        raise MessageRefused(f"Slack destination {destination!r}{status} ({exc.reason}); {told}") from None
    return {"destination": destination, "status_code": answer["status_code"]}


def _destination(known: Mapping[str, str], name: str) -> str:
    if name not in known:
        told = f"there are {', '.join(sorted(known))}" if known else "none is set up (settings: slack)"
        raise ToolNotSetUp(f"there is no Slack destination {name[:80]!r}; {told}")
    return known[name]


TOOLS = (
    declare(
        _send, "send_email", "Send an e-mail in plain text.",
        {
            "to": {"type": "array", "items": text("An address."), "minItems": 1, "maxItems": MAX_RECIPIENTS},
            "subject": text("The subject.", maxLength=500), "body": text("The text.", maxLength=1_000_000),
            "reply_to": text("Address for answers.", default=""),
        },
        required=("to", "subject", "body"), effect="effect", on_unknown="ask", is_async=False,
    ),
    declare(
        _slack, "slack_message", "Post a message to a Slack channel that was set up.",
        {
            "destination": text("Name of the destination, as the settings have it."),
            "message": text("The text.", maxLength=40_000),
        },
        required=("destination", "message"), effect="effect", on_unknown="ask",
    ),
)
