"""Links by which one person decides one question in one way, once.

A link is signed with a secret of the installation and says for which asking of which ticket, for whom, for what and until
when it is; nothing of it is stored. It is good while the question is open, is what it was when the link was made, and has
no answer of that person: the answer is what spends it, in the transaction that counts it.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.runs.people import TERMS, spoken_for, terms_in
from tenuto.errors import Denied
from tenuto.ports.store import TicketRow
from tenuto.runtime.services.tickets import DEAD_LETTER, ticket_view, votes_of

PUSH_BACK = "push_back"
PATH = "/decide"


class Link(msgspec.Struct, frozen=True):
    """A link that decides, and what."""

    decision: str
    url: str


class Claim(msgspec.Struct, frozen=True, array_like=True):
    """What a link is good for.

    Attributes:
        asked: When the question was asked; one that is asked anew under its id is another.
        until: When the link ends, ms since 1970.
        shown: Keyed digests of what was asked, what was shown with it, and who may decide how.
    """

    ns: str
    ticket: str
    asked: int
    decision: str
    person: str
    until: int
    shown: tuple[str, str, str]


class LinkInvalid(Denied):
    """The link was not made here, or was altered."""

    code = "link.invalid"


WORDS = ("the question itself", "what is shown with it", "who may decide it, and how")


class Links:
    """Makes and reads links."""

    def __init__(self, key: bytes, url: str, *, valid_ms: int) -> None:
        """Sign with a key derived from a secret.

        Args:
            url: Address of the server as people's browsers reach it.
        """
        self._key = hmac.digest(key, b"tenuto.links.v1", "sha256")
        self._url = url.rstrip("/")
        self._valid_ms = valid_ms

    def of(self, row: TicketRow, person: str, now: int, groups: Mapping[str, Sequence[str]]) -> list[Link]:
        """Return a link for each decision that a person may make on a ticket; none where they may not decide it."""
        if row.state != "open" or row.kind == DEAD_LETTER or not self._may(row, person, groups):
            return []
        until = min(now + self._valid_ms, row.expires_at or now + self._valid_ms)
        claims = [
            Claim(row.ns, row.id, row.created_at, choice, person, until, self.shown(row))
            for choice in ticket_view(row).choices if choice != PUSH_BACK
        ]  # fmt: skip
        return [Link(claim.decision, f"{self._url}{PATH}?token={self._signed(claim)}") for claim in claims]

    def _may(self, row: TicketRow, person: str, groups: Mapping[str, Sequence[str]]) -> bool:
        terms = terms_in(msgspec.json.decode(row.body))
        known = spoken_for(terms, person, groups) is not None
        return known and person != terms.requester and all(vote.by != person for vote in votes_of(row))

    def read(self, token: str) -> Claim:
        """Return what a link is good for.

        Raises:
            LinkInvalid: It was not signed with our key.
        """
        text, _, mac = token.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac(text).encode()):
            raise LinkInvalid("this link was not made by this server, or was altered on its way")
        return msgspec.json.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Claim)

    def changed(self, claim: Claim, row: TicketRow) -> list[str]:
        """Return in words what of a question differs from what it was when a link was made; none when nothing does."""
        if row.created_at != claim.asked:
            return ["it was asked anew"]
        pairs = zip(WORDS, claim.shown, self.shown(row), strict=True)
        return [word for word, then, now in pairs if then != now]

    def shown(self, row: TicketRow) -> tuple[str, str, str]:
        """Return digests of the parts of a question that nobody without the key can compare to a guess."""
        body: Any = msgspec.json.decode(row.body or b"{}")
        data = cast("dict[str, Any]", body) if isinstance(body, dict) else {"value": body}
        rest = {name: value for name, value in data.items() if name != TERMS}
        return self._digest([row.kind, row.message]), self._digest(rest), self._digest(data.get(TERMS))

    def _digest(self, value: Any) -> str:
        return _text(hmac.digest(self._key, b"shown" + canonical_json(value), "sha256")[:9])

    def _signed(self, claim: Claim) -> str:
        text = _text(msgspec.json.encode(claim))
        return f"{text}.{self._mac(text)}"

    def _mac(self, text: str) -> str:
        return _text(hmac.digest(self._key, b"link" + text.encode(), "sha256"))


def _text(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")
