"""Who may call: one bearer token, browser sessions, one-time sign-in codes and short-lived stream tokens.

Sessions and stream tokens are signed with a key derived from the bearer token, so every server process of one
installation accepts them and changing the token ends them all. Comparisons take the same time whatever differs.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tenuto.api.errors import Refused
from tenuto.errors import InvalidSettings, Problem
from tenuto.settings import MIN_TOKEN

CODE_TTL_S = 600
SESSION_TTL_S = 7 * 24 * 3600
STREAM_TTL_S = 60
ALL_RUNS = "*"
_CODES_KEPT = 64

Clock = Callable[[], float]


def _wall_clock() -> float:
    # Cookies and tokens end by the clock of the machine that checks them; no run depends on it.
    return time.time()  # noqa: TID251


class Auth:
    """Checks and makes every credential of one server.

    Attributes:
        required: Whether a request must show one; `False` only for `--no-auth`.
        token: The bearer token; empty when none is required.
    """

    def __init__(self, token: str, *, required: bool = True, clock: Clock = _wall_clock) -> None:
        """Derive the signing key; without a token it is random and dies with the process."""
        self.required = required
        self.token = token
        self._clock = clock
        self._key = hmac.digest(token.encode() or secrets.token_bytes(32), b"tenuto.signing.v1", "sha256")
        self._codes: dict[str, float] = {}

    def is_bearer(self, given: str) -> bool:
        """Return whether `given` is the bearer token."""
        return bool(self.token) and hmac.compare_digest(given.encode(), self.token.encode())

    # --- one-time codes ---------------------------------------------------------------------------------------
    def new_code(self) -> str:
        """Return a code that opens one session within ten minutes."""
        now = self._clock()
        self._codes = {code: until for code, until in self._codes.items() if until > now}
        while len(self._codes) >= _CODES_KEPT:
            del self._codes[next(iter(self._codes))]
        code = secrets.token_urlsafe(24)
        self._codes[code] = now + CODE_TTL_S
        return code

    def spend_code(self, code: str) -> bool:
        """Return whether the code is valid; it never is again."""
        found = next((known for known in self._codes if hmac.compare_digest(known.encode(), code.encode())), None)
        return found is not None and self._codes.pop(found) > self._clock()

    # --- sessions ---------------------------------------------------------------------------------------------
    def new_session(self) -> str:
        """Return the value of a session cookie."""
        return self._sign("session", secrets.token_urlsafe(9), SESSION_TTL_S)

    def is_session(self, value: str) -> bool:
        """Return whether a cookie is a session that has not ended."""
        return self._read("session", value) is not None

    # --- stream tokens ----------------------------------------------------------------------------------------
    def new_stream_token(self, run_id: str) -> str:
        """Return a token that opens the streams of one run, or of all runs (`*`), for 60 s."""
        return self._sign("stream", run_id, STREAM_TTL_S)

    def check_stream_token(self, value: str, run_id: str) -> None:
        """Let a stream token of this very run pass.

        Raises:
            Refused: 401 when it is no token or has expired, 403 when it is bound to something else.
        """
        bound = self._read("stream", value)
        if bound is None:
            raise Refused(
                401, "auth.stream_token", "the stream token is not valid or has expired; ask for a new one",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if bound != run_id:
            raise Refused(403, "auth.stream_scope", "the stream token is bound to another stream than this one")

    # --- signing ----------------------------------------------------------------------------------------------
    def _sign(self, kind: str, subject: str, ttl_s: int) -> str:
        claim = f"{int(self._clock()) + ttl_s}.{_text(subject.encode())}"
        return f"{claim}.{self._mac(kind, claim)}"

    def _read(self, kind: str, value: str) -> str | None:
        claim, _, mac = value.rpartition(".")
        if not claim or not hmac.compare_digest(mac.encode(), self._mac(kind, claim).encode()):
            return None
        until, _, subject = claim.partition(".")
        if int(until) <= self._clock():
            return None
        return urlsafe_b64decode(subject + "=" * (-len(subject) % 4)).decode()

    def _mac(self, kind: str, claim: str) -> str:
        return _text(hmac.digest(self._key, f"{kind}:{claim}".encode(), "sha256"))


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def kept_token(data_dir: str | os.PathLike[str]) -> str:
    """Return the token kept in the data directory, made at the first call; only its owner can read the file.

    Raises:
        InvalidSettings: The file cannot be read or written, or holds too short a token.
    """
    path = Path(data_dir) / "token"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        token = _existing(path) or _created(path)
    except OSError as error:
        raise _unusable(path, f"cannot be kept: {error.strerror}") from error
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise _unusable(path, f"must hold one line of at least {MIN_TOKEN} printable ASCII characters")
    return token


def _existing(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _created(path: Path) -> str:
    """Write a new token in one step, so that processes starting together agree on one."""
    draft = path.with_name(f".token.{os.getpid()}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(secrets.token_urlsafe(32) + "\n")
    try:
        if path.exists():  # there, but empty
            os.replace(draft, path)
        else:
            with suppress(FileExistsError):
                os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return _existing(path)


def _unusable(path: Path, message: str) -> InvalidSettings:
    problem = Problem(str(path), message, hint="remove the file to get a new token, or set TENUTO_TOKEN",
                      code="settings.token_file")  # fmt: skip
    return InvalidSettings("the token kept beside the database is not usable", problems=(problem,))
