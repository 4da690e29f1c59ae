"""Credentials: one-time codes, sessions, stream tokens, the kept token."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tenuto.api.auth import CODE_TTL_S, SESSION_TTL_S, STREAM_TTL_S, Auth, kept_token
from tenuto.api.errors import Refused
from tenuto.errors import InvalidSettings

TOKEN = "a-token-that-is-long-enough"


class Hands:
    """A clock the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_code_opens_one_session() -> None:
    """A one-time code is good once and for ten minutes."""
    clock = Hands()
    auth = Auth(TOKEN, clock=clock)
    code, late = auth.new_code(), auth.new_code()
    assert auth.spend_code(code)
    assert not auth.spend_code(code)
    clock.now += CODE_TTL_S
    assert not auth.spend_code(late)
    assert not auth.spend_code("")


def test_a_session_is_good_in_every_process_until_it_ends() -> None:
    """Another server with the same token accepts the cookie; one with another token does not."""
    clock = Hands()
    cookie = Auth(TOKEN, clock=clock).new_session()
    assert Auth(TOKEN, clock=clock).is_session(cookie)
    assert not Auth(TOKEN + "x", clock=clock).is_session(cookie)
    assert not Auth(TOKEN, clock=clock).is_session(cookie[:-1] + ("A" if cookie[-1] != "A" else "B"))
    clock.now += SESSION_TTL_S
    assert not Auth(TOKEN, clock=clock).is_session(cookie)


def test_a_stream_token_is_bound_and_short_lived() -> None:
    """It opens its own run only, is no session, and expires after a minute."""
    clock = Hands()
    auth = Auth(TOKEN, clock=clock)
    token = auth.new_stream_token("run-1")
    auth.check_stream_token(token, "run-1")
    assert not auth.is_session(token)
    with pytest.raises(Refused) as foreign:
        auth.check_stream_token(token, "run-2")
    clock.now += STREAM_TTL_S
    with pytest.raises(Refused) as expired:
        auth.check_stream_token(token, "run-1")
    with pytest.raises(Refused) as forged:
        auth.check_stream_token("9999999999.cnVuLTE.AAAA", "run-1")
    assert (foreign.value.status, expired.value.status, forged.value.status) == (403, 401, 401)


def test_bearer_needs_the_whole_token() -> None:
    """No prefix, no empty token, and nothing at all when none is set."""
    assert Auth(TOKEN).is_bearer(TOKEN)
    assert not Auth(TOKEN).is_bearer(TOKEN[:-1])
    assert not Auth(TOKEN).is_bearer("")
    assert not Auth("", required=False).is_bearer("")


def test_the_token_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    """The first start makes it, later ones read it, the file is private."""
    token = kept_token(tmp_path / "new")
    assert token == kept_token(tmp_path / "new")
    assert len(token) >= 32
    assert stat.S_IMODE((tmp_path / "new" / "token").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["token"]


def test_an_empty_token_file_is_replaced_and_a_weak_one_refused(tmp_path: Path) -> None:
    """A crash may leave an empty file; a person may write a weak one."""
    (tmp_path / "token").write_text("\n")
    assert len(kept_token(tmp_path)) >= 32
    (tmp_path / "token").write_text("short")
    with pytest.raises(InvalidSettings):
        kept_token(tmp_path)
