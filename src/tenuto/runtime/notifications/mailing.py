"""Mailing a message: one recipient, one hand-over, a Message-ID by which a repeat is known."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import replace

from tenuto.runtime.notifications.templates import Mail
from tenuto.runtime.tools.mail import MailServer, compose, send


async def post(server: MailServer, to: str, mail: Mail, *, key: str, timeout_s: float, threads: Executor) -> None:
    """Hand an e-mail to a server, on one of some threads that nothing else waits for.

    Raises:
        MailNotSetUp: The password is missing.
        MessageRefused: The server will not have it, or an address or header is not allowed.
        MessageFailed: The server cannot be reached, or not now.
    """
    own = replace(server, timeout_s=timeout_s)
    message = compose(own, [to], mail.subject, mail.text, key=key, html=mail.html)
    await asyncio.get_running_loop().run_in_executor(threads, send, own, message, [to])
