"""Tells people: plans what is news, sends what is due, tries again what failed. Nothing of a run waits for it.

Whatever is to be told is in the store until it was sent or given up, so that a crash loses none of it. Any number of
processes may send: each message is one's at a time. After a crash between sending and noting it, it is sent once more
under the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import msgspec

from tenuto.domain.runs.people import terms_in
from tenuto.errors import Corrupt, Gone, Permanent, StepError, TenutoError
from tenuto.ports.clock import Clock
from tenuto.ports.notifications import News, NotificationRow
from tenuto.ports.store import TicketRow
from tenuto.runtime.notifications import mailing, webhook
from tenuto.runtime.notifications.channels import Channel, Recipient, Webhook, planned
from tenuto.runtime.notifications.message import facts_of, payload, values
from tenuto.runtime.services.engine import Engine
from tenuto.runtime.services.links import Links
from tenuto.runtime.tools.http import HttpPolicy

log = logging.getLogger("tenuto.notifications")

AT_ONCE = 16
LONGEST_WAIT_S = 3600.0
OLD_MS = 86_400_000
"""A decision as old as this is no news: notifications were set up after it."""
ROUNDS = 12
"""Of a mail server each may take as long as a message may; a message is held for longer than all of them."""
ESCALATE = "escalate"



class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How messages are sent.

    Attributes:
        attempts: Tries of one message; then it is given up, and shown as such.
        first_wait_s: Before the second try; each later wait is twice as long, an hour at most.
        timeout_s: For a connection, and for each answer.
        ahead_s: How long before a question expires people are told; never before three quarters of its time are over.
        page: Address of the server's page, for messages without links.
        look_s: Pause before it is looked again for news and for what is due, when there was nothing.
    """

    attempts: int = 10
    first_wait_s: float = 5.0
    timeout_s: float = 10.0
    ahead_s: float = 3600.0
    page: str = ""
    look_s: float = 1.0


class Notifier:
    """One process's part in telling people."""

    def __init__(
        self, engine: Engine, clock: Clock, channels: Sequence[Channel], options: Options, *,
        http: HttpPolicy | None = None, links: Links | None = None,
    ) -> None:  # fmt: skip
        """Prepare; nothing is looked for before `run`.

        Args:
            links: Makes the links by which a person decides a ticket; `None` makes none.

        Raises:
            InvalidSettings: A secret is missing.
        """
        self._context, self._store, self._ns = engine.context, engine.store, engine.context.ns
        self._clock, self._options, self._links = clock, options, links
        self._http = http or HttpPolicy()
        self._channels = {channel.name: channel for channel in channels}
        self._secrets = {
            channel.name: webhook.secret_of(channel.way.secret, channel.name)
            for channel in channels if isinstance(channel.way, Webhook)
        }  # fmt: skip
        self._unreadable: set[str] = set()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="tenuto-mail")
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Tell people from now on."""
        self._task = asyncio.get_running_loop().create_task(self.run(), name="notifications")

    async def close(self) -> None:
        """Begin nothing new, and let what was begun come to its end within its time: so that none of it is sent again."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=self._options.timeout_s * 2)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        """Plan and send until told to stop; what was begun to be sent is sent to its end."""
        while not self._stopping.is_set():
            try:
                worked = await self.turn()
            except (TenutoError, OSError) as error:
                log.warning("people cannot be told just now: %s", type(error).__name__)
                worked = False
            except Exception:  # whatever one turn met, the next may not; nobody would begin again
                log.exception("people cannot be told just now")
                worked = False
            if not worked:
                try:
                    async with asyncio.timeout(self._options.look_s):
                        await self._stopping.wait()
                except TimeoutError:
                    pass

    async def turn(self) -> bool:
        """Plan all news and send all that is due now, once; return whether there was any."""
        news = await self._store.ticket_news(self._ns, ahead_ms=int(self._options.ahead_s * 1000))
        unread = [await self._planned(one) for one in news].count(False)
        hold_ms = int(self._options.timeout_s * ROUNDS * 1000)
        due = await self._store.take_notifications(self._ns, AT_ONCE, hold_ms)
        await asyncio.gather(*(self._send(row) for row in due))
        return bool(due) or len(news) > unread

    # --- planning ---------------------------------------------------------------------------------------------

    async def _planned(self, news: News) -> bool:
        """Plan some news; `False` where its ticket cannot be read, which holds up no other."""
        try:
            await self._plan(news)
        except (Corrupt, Gone, ValueError) as error:
            if news.ticket not in self._unreadable:  # once: it is met again at every turn
                self._unreadable.add(news.ticket)
                log.warning("nobody can be told of ticket %s: it cannot be read (%s)", news.ticket, type(error).__name__)
            return False
        return True

    async def _plan(self, news: News) -> None:
        ticket = await self._store.get_ticket(self._ns, news.ticket)
        if ticket is None or ticket.created_at != news.asked:
            return
        terms = terms_in(msgspec.json.decode(ticket.body))
        rows = planned(self._channels.values(), ticket, self._events(ticket, news), terms.approvers, self._context.groups)
        await self._store.tell(self._ns, news, news.next, rows)

    def _events(self, ticket: TicketRow, news: News) -> list[str]:
        """Return what people are told, in order: also that it was asked, where the answer came before that was told."""
        if news.next == "closed":
            return ["closed"] if news.told else []
        if news.next != "decided":
            return [news.next]
        if not news.told and self._clock.now() - ticket.decided_at > OLD_MS:
            return []
        answer: dict[str, Any] = msgspec.json.decode(ticket.answer) if ticket.answer else {}
        last = "escalated" if answer.get("decision") == ESCALATE else "decided"
        return [last] if news.told else ["opened", last]

    # --- sending ----------------------------------------------------------------------------------------------

    async def _send(self, row: NotificationRow) -> None:
        """Send a message and note what came of it."""
        try:
            await self._deliver(row)
        except Permanent as error:
            await self._give_up(row, str(error))
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one message is its own affair
            why = str(error) if isinstance(error, StepError) else type(error).__name__
            if row.attempts >= self._options.attempts:
                await self._give_up(row, why)
            else:
                await self._store.settle_notification(row, "due", wait_ms=self._wait_ms(row), error=why)
        else:
            await self._store.settle_notification(row, "sent")

    async def _give_up(self, row: NotificationRow, why: str) -> None:
        if await self._store.settle_notification(row, "failed", error=why):
            log.error(
                "notification %s of ticket %s by %s is given up after %d tries: %s", row.id, row.ticket, row.channel,
                row.attempts, why, extra={"run": row.run_id},
            )  # fmt: skip

    def _wait_ms(self, row: NotificationRow) -> int:
        """Return how long the next try waits: twice as long each time, and up to a tenth longer by the message's id."""
        wait = min(self._options.first_wait_s * 2 ** (row.attempts - 1), LONGEST_WAIT_S)
        part = sha256(f"{row.id}/{row.attempts}".encode()).digest()[0] / 255
        return int(wait * (1 + part / 10) * 1000)

    async def _deliver(self, row: NotificationRow) -> None:
        channel = self._channels.get(row.channel)
        if channel is None:
            raise Permanent(f"no channel {row.channel!r} is set up any more", code="notification.channel")
        ticket = await self._store.get_ticket(self._ns, row.ticket)
        if ticket is None:
            raise Permanent("the ticket is gone", code="notification.ticket")
        whom = msgspec.json.decode(row.body, type=Recipient)
        facts = await facts_of(self._context, ticket)
        asks = ticket.state == "open" and row.event in ("opened", "expiring")
        now, groups = self._clock.now(), self._context.groups
        links = self._links.of(ticket, whom.person, now, groups) if asks and whom.person and self._links is not None else ()
        page = self._options.page
        if isinstance(channel.way, Webhook):
            body = payload(row, facts, channel, links, page, now)
            await webhook.post(
                channel.way, self._secrets[channel.name], self._http, row.id, now // 1000, body,
                timeout_s=self._options.timeout_s,
            )  # fmt: skip
        else:
            mail = channel.templates.render(values(row, facts, channel, whom.person, links, page))
            await mailing.post(
                channel.way.server, whom.to, mail, key=row.id, timeout_s=self._options.timeout_s, threads=self._threads
            )
