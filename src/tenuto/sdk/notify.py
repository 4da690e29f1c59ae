"""From settings to the channels by which people are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from tenuto.errors import InvalidSettings, Problem
from tenuto.runtime.notifications.channels import Channel, Mailbox, Webhook
from tenuto.runtime.notifications.notifier import Notifier, Options
from tenuto.runtime.notifications.templates import SHIPPED, Templates
from tenuto.runtime.notifications.webhook import secret_of
from tenuto.runtime.services.links import Links
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.tools.mail import MailServer, address_fault
from tenuto.settings import Settings
from tenuto.settings.notify import Notify
from tenuto.wiring import Runtime


def channels_of(settings: Settings) -> list[Channel]:
    """Return the channels of the settings, each of which can be used.

    Raises:
        InvalidSettings: With everything that is wrong with all of them.
    """
    problems: list[Problem] = []
    found = [_channel(name, one, problems) for name, one in settings.notify.items()]
    if problems:
        raise InvalidSettings("a channel by which people are told is not set up", problems=tuple(problems))
    return [channel for channel in found if channel is not None]


def tell_people(runtime: Runtime, settings: Settings, links: Links | None = None) -> None:
    """Tell people of questions by the channels of the settings, until the runtime is closed.

    Raises:
        InvalidSettings: A channel is not set up.
    """
    channels = channels_of(settings)
    http = HttpPolicy(allowed=frozenset(host.lower() for host in settings.http_allow))
    notifier = Notifier(runtime.engine, runtime.clock, channels, options_of(settings), http=http, links=links)
    notifier.start()
    runtime.endings.append(notifier.close)


def options_of(settings: Settings) -> Options:
    """Return how messages are sent under these settings."""
    given = settings.notifications
    return Options(
        attempts=given.attempts, first_wait_s=given.first_wait_s, timeout_s=given.timeout_s, ahead_s=given.ahead_s,
        page=settings.links.url,
    )


def _channel(name: str, given: Notify, problems: list[Problem]) -> Channel | None:
    place, templates = f"notify.{name}", SHIPPED
    is_webhook, is_mail = bool(given.url or given.url_env), bool(given.host)
    if is_webhook == is_mail:
        what = f"has {'both' if is_mail else 'neither'} an address to post to {'and' if is_mail else 'nor'} a mail server"
        problems.append(Problem(place, what, "set url (or url_env), or host", "settings.notify"))
        return None
    way = _guarded(problems, lambda: (_webhook if is_webhook else _mailbox)(name, given, problems))
    if given.templates:
        templates = _guarded(problems, lambda: Templates(Path(given.templates))) or SHIPPED
    if way is None:
        return None
    return Channel(
        name=name, way=way, tickets=given.tickets, events=given.events, people=given.people, show=given.show, templates=templates
    )


def _guarded(problems: list[Problem], make: Callable[[], Any]) -> Any:
    try:
        return make()
    except InvalidSettings as error:
        problems += error.problems or (Problem("notify", error.message, code="settings.notify"),)
        return None


def _webhook(name: str, given: Notify, problems: list[Problem]) -> Webhook:
    place = f"notify.{name}"
    if given.host or given.addresses:
        problems.append(Problem(place, "mixes a webhook with e-mail", "make two channels", "settings.notify"))
    secret = f"env:{given.secret_env}" if given.secret_env else f"file:{given.secret_file}" if given.secret_file else ""
    if not secret:
        hint = "set secret_env or secret_file; whoever gets the posts needs it to know from whom they are"
        problems.append(Problem(place, "has no secret to sign posts with", hint, "settings.notify"))
    else:
        secret_of(secret, name)
    url = f"env:{given.url_env}" if given.url_env else given.url
    return Webhook(url=url, secret=secret, internal=given.internal, person=given.person)


def _mailbox(name: str, given: Notify, problems: list[Problem]) -> Mailbox:
    place = f"notify.{name}"
    if not given.sender:
        problems.append(Problem(f"{place}.sender", "is missing", "give the address the e-mails are from", "settings.notify"))
    addresses = {who: _several(mails) for who, mails in given.addresses.items()}
    if not addresses:
        hint = 'such as ada = "ada@example.org", "group:heads" = […], "*" = […]'
        problems.append(Problem(f"{place}.addresses", "is empty", hint, "settings.notify"))
    for who, mails in addresses.items():
        problems += [
            Problem(f"{place}.addresses.{who}", fault, code="settings.notify") for mail in mails if (fault := address_fault(mail))
        ]
    server = MailServer(
        host=given.host, port=given.port, sender=given.sender, security=given.security, user=given.user,
        password_env=given.password_env, name=place,
    )
    return Mailbox(server=server, addresses=cast("Mapping[str, tuple[str, ...]]", addresses))


def _several(given: Any) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
