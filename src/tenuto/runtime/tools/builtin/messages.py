"""`send_email` and `slack_message`: to destinations an operator has set up, once for a call.

A connection that breaks while a message is handed over leaves its fate unknown; it is not sent again on a guess, a
person is asked. An e-mail's Message-ID derives from the call's key, so that a repeat is seen as the same message.
"""

from __future__ import annotations

import os
import smtplib
import ssl
from collections.abc import Mapping
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from hashlib import sha256
from typing import Any

from tenuto.errors import Permanent, StepError
from tenuto.runtime.tools.builtin.kit import Kit, MailServer, ToolNotSetUp, declare, text
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.runtime.tools.http import request

MAX_RECIPIENTS = 50


class MessageRefused(Permanent):
    """The message was not sent: it breaks a rule here, or the server refuses it."""

    code = "message.refused"


class MessageFailed(StepError):
    """The message could not be handed over; `details["unknown"]` says whether it may have been all the same."""

    code = "message.failed"


def _send(
    kit: Kit, info: CallInfo, to: list[str], subject: str, body: str, reply_to: str = ""
) -> dict[str, Any]:
    server = kit.mail
    if server is None:
        raise ToolNotSetUp("send_email has no server; set mail.host and mail.sender in the settings")
    message = _message(server, to, subject, body, reply_to, info.key)
    password = os.environ.get(server.password_env, "") if server.password_env else ""
    if server.user and not password:
        named = server.password_env or "that mail.password_env names"
        raise ToolNotSetUp(f"send_email has no password; set the environment variable {named}")
    try:
        link = _connect(server)
    except (OSError, smtplib.SMTPException) as exc:
        raise MessageFailed(f"the mail server {server.host}:{server.port} cannot be reached: {type(exc).__name__}") from exc
    try:
        _hand_over(link, server, password, to, message.as_bytes(policy=SMTP))
    finally:
        link.close()
    return {"message_id": str(message["Message-ID"]), "to": to}


def _message(server: MailServer, to: list[str], subject: str, body: str, reply_to: str, key: str) -> EmailMessage:
    for address in to:
        name = parseaddr(address)[1]
        if name != address or name.count("@") != 1 or any(mark.isspace() or ord(mark) < 33 for mark in address):
            raise MessageRefused(f"{address[:80]!r} is no plain address, such as ada@example.org")
        domain = "@" + name.partition("@")[2].lower()
        if server.allowed and name.lower() not in server.allowed and domain not in server.allowed:
            raise MessageRefused(f"{address!r} may not be written to; mail.allowed lists {', '.join(server.allowed)}")
    message = EmailMessage()
    try:
        message["From"], message["To"], message["Subject"] = server.sender, ", ".join(to), subject
        if reply_to:
            message["Reply-To"] = reply_to
    except ValueError as exc:
        raise MessageRefused(f"a header of the e-mail is not allowed: {exc}") from exc
    domain = parseaddr(server.sender)[1].partition("@")[2] or "localhost"
    message["Message-ID"] = f"<{sha256(key.encode()).hexdigest()[:40]}@{domain}>"
    message.set_content(body)
    return message


def _connect(server: MailServer) -> smtplib.SMTP:
    if server.security == "tls":
        return smtplib.SMTP_SSL(
            server.host, server.port, timeout=server.timeout_s, context=ssl.create_default_context()
        )
    link = smtplib.SMTP(server.host, server.port, timeout=server.timeout_s)
    if server.security == "starttls":
        link.starttls(context=ssl.create_default_context())
    return link


def _hand_over(link: smtplib.SMTP, server: MailServer, password: str, to: list[str], content: bytes) -> None:
    """Hand a message over for all its recipients or for none."""
    try:
        link.ehlo_or_helo_if_needed()
        if server.user:
            link.login(server.user, password)
        _expect(link.mail(parseaddr(server.sender)[1]), "the sender")
        for address in to:
            _expect(link.rcpt(address), f"the recipient {address!r}")
    except (OSError, smtplib.SMTPException) as exc:
        raise MessageFailed(f"the mail server {server.host} did not take the message: {type(exc).__name__}") from exc
    try:
        code, answer = link.data(content)
    except smtplib.SMTPDataError as exc:
        _expect((exc.smtp_code, exc.smtp_error), "the message")
        raise
    except (OSError, smtplib.SMTPException) as exc:
        raise MessageFailed(
            f"the connection to {server.host} broke while the message was handed over; it may have been sent", unknown=True
        ) from exc
    _expect((code, answer), "the message")


def _expect(answer: tuple[int, Any], what: str) -> None:
    code, said = answer
    if code < 400:
        return
    told = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    message = f"the mail server refuses {what}: {code} {told[:200]}"
    if code < 500:
        raise MessageFailed(message)
    raise MessageRefused(message)


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
