"""Handing e-mail over to a server: for all its recipients or for none, and never with a secret in what is told of it."""

from __future__ import annotations

import os
import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr
from hashlib import sha256
from typing import Any

from tenuto.errors import Permanent, StepError


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where e-mail is handed over.

    Attributes:
        security: `none`, `starttls` or `tls`.
        password_env: Environment variable that holds the password.
        allowed: Addresses, or domains as `@example.org`, that may be written to; empty allows all.
        name: What sets it up, for messages about its settings.
    """

    host: str
    port: int
    sender: str
    security: str = "starttls"
    user: str = ""
    password_env: str = field(default="", repr=False)
    allowed: tuple[str, ...] = ()
    timeout_s: float = 30.0
    name: str = "mail"


class MailNotSetUp(Permanent):
    """A setting of the mail server is missing."""

    code = "message.not_set_up"


class MessageRefused(Permanent):
    """The message was not sent: it breaks a rule here, or the server refuses it."""

    code = "message.refused"


class MessageFailed(StepError):
    """The message could not be handed over; `details["unknown"]` says whether it may have been all the same."""

    code = "message.failed"


def compose(
    server: MailServer, to: list[str], subject: str, body: str, *, key: str, reply_to: str = "", html: str = ""
) -> EmailMessage:
    """Return a message from a server's sender; its Message-ID derives from `key`, so that a repeat is seen as the same.

    Raises:
        MessageRefused: It breaks a rule here.
    """
    for address in to:
        if wrong := address_fault(address):
            raise MessageRefused(wrong)
        domain = "@" + address.partition("@")[2].lower()
        if server.allowed and address.lower() not in server.allowed and domain not in server.allowed:
            raise MessageRefused(f"{address!r} may not be written to; {server.name}.allowed lists {', '.join(server.allowed)}")
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
    if html:
        message.add_alternative(html, subtype="html")
    return message


def address_fault(address: str) -> str:
    """Return what is wrong with an address; empty when it is a plain one."""
    name = parseaddr(address)[1]
    if name != address or name.count("@") != 1 or any(mark.isspace() or ord(mark) < 33 for mark in address):
        return f"{address[:80]!r} is no plain address, such as ada@example.org"
    return ""


def send(server: MailServer, message: EmailMessage, to: list[str]) -> None:
    """Hand a message over. Blocks; call it on a thread.

    Raises:
        MailNotSetUp: The password is missing.
        MessageRefused: The server will not have it.
        MessageFailed: The server cannot be reached, or not now.
    """
    password = os.environ.get(server.password_env, "") if server.password_env else ""
    if server.user and not password:
        named = server.password_env or f"that {server.name}.password_env names"
        raise MailNotSetUp(f"there is no password for the mail server; set the environment variable {named}")
    try:
        link = _connect(server)
    except (OSError, smtplib.SMTPException) as exc:
        raise MessageFailed(f"the mail server {server.host}:{server.port} cannot be reached: {type(exc).__name__}") from exc
    try:
        _hand_over(link, server, password, to, message.as_bytes(policy=SMTP))
    finally:
        link.close()


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
