"""Channels: by which way which news of which tickets go to whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import msgspec

from tenuto.domain.graph.people import GROUP
from tenuto.ports.notifications import NotificationRow
from tenuto.ports.store import TicketRow
from tenuto.runtime.notifications.templates import SHIPPED, Templates
from tenuto.runtime.tools.mail import MailServer

EVENTS = ("opened", "expiring", "escalated", "decided", "closed")
SHOWN = ("message", "data", "reason", "answer")
EVERYBODY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where messages are posted.

    Attributes:
        url: `env:NAME` or the address itself.
        secret: `env:NAME` or `file:PATH` of the secret they are signed with.
        internal: Whether the address may be one that is not public.
        person: Who reads there: they are given links of their own.
    """

    url: str = field(repr=False)
    secret: str
    internal: bool = False
    person: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mailbox:
    """Where messages are mailed.

    Attributes:
        addresses: By person or `group:NAME`; `*` is for those who have none.
    """

    server: MailServer
    addresses: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One way to people.

    Attributes:
        tickets: Kinds of tickets that go this way; none is all.
        events: Which of `EVENTS`; none is all.
        people: Only tickets that concern one of these people, or groups as `group:NAME`; none is all.
        show: What of the question itself the shipped messages hold, of `SHOWN`; own templates hold what they ask for.
    """

    name: str
    way: Webhook | Mailbox
    tickets: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    show: tuple[str, ...] = ()
    templates: Templates = SHIPPED


class Recipient(msgspec.Struct, frozen=True, omit_defaults=True):
    """To whom one message goes; kept with it.

    Attributes:
        to: The address, for e-mail.
        person: Who reads it, when it is one person; links are theirs.
    """

    to: str = ""
    person: str = ""


def concerns(channel: Channel, kind: str, event: str, approvers: Sequence[str], groups: Mapping[str, Sequence[str]]) -> bool:
    """Say whether some news go by a channel; a question for everybody concerns whomever it is for."""
    if (channel.tickets and kind not in channel.tickets) or (channel.events and event not in channel.events):
        return False
    if not channel.people or not approvers:
        return True
    return bool(_names(channel.people, groups) & _names(approvers, groups))


def recipients(channel: Channel, approvers: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[Recipient]:
    """Return to whom the news of a question go.

    Of a group with an address the group is told, of others each member. Where nobody who is asked has an address, and
    where everybody is asked, it goes to the addresses of `*`.
    """
    way = channel.way
    if isinstance(way, Webhook):
        return [Recipient(person=way.person)]
    found: dict[Recipient, None] = {}
    for name in approvers:
        if name in way.addresses:
            person = "" if name.startswith(GROUP) else name
            found.update((Recipient(to, person), None) for to in way.addresses[name])
        elif name.startswith(GROUP):
            for member in groups.get(name.removeprefix(GROUP), ()):
                found.update((Recipient(to, member), None) for to in way.addresses.get(member, ()))
    return list(found) or [Recipient(to) for to in way.addresses.get(EVERYBODY, ())]


def planned(
    channels: Iterable[Channel], ticket: TicketRow, events: Sequence[str], approvers: Sequence[str],
    groups: Mapping[str, Sequence[str]],
) -> list[NotificationRow]:
    """Return the messages that tell of a ticket, in the order they are to be sent."""
    return [
        _row(ticket, event, channel.name, whom)
        for event in events
        for channel in channels
        if concerns(channel, ticket.kind, event, approvers, groups)
        for whom in recipients(channel, approvers, groups)
    ]


def _row(ticket: TicketRow, event: str, channel: str, whom: Recipient) -> NotificationRow:
    lane = f"{ticket.ns}/{ticket.id}/{ticket.created_at}/{channel}/{whom.to}"
    return NotificationRow(
        id="ntf-" + sha256(f"{lane}/{event}".encode()).hexdigest()[:24], ns=ticket.ns, ticket=ticket.id,
        run_id=ticket.run_id, asked=ticket.created_at, event=event, channel=channel,
        lane=sha256(lane.encode()).hexdigest()[:24], body=msgspec.json.encode(whom),
    )


def _names(given: Sequence[str], groups: Mapping[str, Sequence[str]]) -> set[str]:
    members = (name for group in given if group.startswith(GROUP) for name in groups.get(group.removeprefix(GROUP), ()))
    return {*given, *members}
