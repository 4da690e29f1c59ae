"""How people are told of questions: channels by name, and how patiently messages are sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tenuto.settings.keys import between, key, meant, one_of
from tenuto.settings.tools import variable

EVENTS = ("opened", "expiring", "escalated", "decided", "closed")
SHOWN = ("message", "data", "reason", "answer")
KINDS = ("approval", "escalation", "review", "unknown_outcome", "budget", "patch", "breaker", "integrity", "dead_letter")


def _each_of(*allowed: str) -> Any:
    def check(values: tuple[str, ...]) -> str:
        for value in values:
            if value not in allowed:
                return f"{value!r} is not allowed; allowed: {', '.join(allowed)}" + meant(value, allowed)
        return ""

    return check


def _address(value: str) -> str:
    parts = urlsplit(value)
    if not value or (parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc):
        return ""
    return "must read http(s)://host/path, without a user"


def _root(value: str) -> str:
    if not value or (not _address(value) and not urlsplit(value).query and not urlsplit(value).fragment):
        return ""
    return "must read http(s)://host, or http(s)://host/path behind a proxy, without a query"


def _mails(value: Mapping[str, Any]) -> str:
    for name, given in value.items():
        several = [given] if isinstance(given, str) else given
        if not isinstance(several, list | tuple) or not all(isinstance(item, str) and "@" in item for item in several):  # type: ignore[misc]
            return f"of {name!r} must be an e-mail address, or a list of them"
    return ""


@dataclass(frozen=True, kw_only=True)
class Notify:
    """One way by which people are told: a webhook with `url`, or e-mail with `host`."""

    tickets: tuple[str, ...] = key((), "kinds of tickets that go this way; empty is all", _each_of(*KINDS))
    events: tuple[str, ...] = key((), "what of them is told: " + ", ".join(EVENTS) + "; empty is all of it", _each_of(*EVENTS))
    people: tuple[str, ...] = key((), "only what concerns these people, or groups as group:NAME; empty is everything")
    show: tuple[str, ...] = key(
        ("message",), "what of the run itself is in a message: " + ", ".join(SHOWN) + "; empty is nothing", _each_of(*SHOWN)
    )
    url: str = key("", "where messages are posted", _address, secret=True)
    url_env: str = key("", "environment variable that holds the address, where it is a secret", variable)
    secret_env: str = key("", "environment variable that holds the secret posts are signed with", variable)
    secret_file: str = key("", "file that holds that secret")
    internal: bool = key(False, "let the address be one that is not public")
    person: str = key("", "who reads there; posts carry links by which this person decides")
    host: str = key("", "mail server")
    port: int = key(587, "its port", between(1, 65_535))
    security: str = key("starttls", "how the connection is kept secret", one_of("none", "starttls", "tls"))
    sender: str = key("", "address the e-mails are from")
    user: str = key("", "name to log in with; empty does not log in")
    password_env: str = key("", "environment variable that holds the password", variable)
    addresses: Mapping[str, Any] = field(
        default_factory=dict[str, Any],
        metadata={"help": "e-mail addresses by person or group:NAME; * is for those who have none", "check": _mails, "env": ()},
    )  # fmt: skip
    templates: str = key("", "directory with templates of one's own: subject.txt, text.txt, html.html")


@dataclass(frozen=True, kw_only=True)
class Notifications:
    """How patiently messages are sent."""

    attempts: int = key(10, "tries of one message before it is given up", between(1, 100))
    first_wait_s: float = key(5.0, "seconds before the second try; each later wait is twice as long", between(0.01, 3600, " s"))
    timeout_s: float = key(10.0, "seconds a receiver has to answer", between(0.1, 300, " s"))
    ahead_s: float = key(3600.0, "seconds before its expiry that an open question is told of again", between(0, 31_536_000, " s"))


@dataclass(frozen=True, kw_only=True)
class Links:
    """Links by which a person decides."""

    url: str = key("", "address of this server as people's browsers reach it; empty makes no links", _root)
    valid_s: float = key(604_800.0, "seconds a link is good for, if its question does not expire before",
                         between(60, 31_536_000, " s"))  # fmt: skip
    key_env: str = key("", "environment variable that holds the secret links are signed with; empty derives it from the token",
                       variable)  # fmt: skip
    key_file: str = key("", "file that holds that secret")
