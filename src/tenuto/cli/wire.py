"""HTTP/1.1 over one socket: the part of it a client of this API needs, at a quarter of `http.client`'s import.

One request per connection. The body arrives in pieces as the server sends them, so streams need nothing
else; a connection that ends before its body does is an error, never a short body.
"""

from __future__ import annotations

# The C module itself: `socket` adds selectors and enums to every start. TLS loads the full one.
import _socket

from tenuto.cli.errors import CliError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MAX_HEAD = 65_536
CUT = "The connection to the server broke before the answer was complete."


class Address:
    """A base URL taken apart; `prefix` is the path in front of `/api`, without a trailing slash."""

    __slots__ = ("host", "is_tls", "port", "prefix", "shown")

    def __init__(self, url: str) -> None:
        """Take the URL apart.

        Raises:
            CliError: It is not an http or https address.
        """
        scheme, separator, rest = url.partition("://")
        authority, _, path = rest.partition("/")
        host, port = _host_and_port(authority)
        usable = separator and scheme in ("http", "https") and host and (port.isdigit() or not port)
        if not usable or int(port or 1) > 65_535 or not url.isprintable() or " " in url:
            raise CliError(
                f"{url!r} is not an address the CLI can call.", hint="Give one like http://127.0.0.1:8321"
            )
        self.is_tls = scheme == "https"
        self.host = host
        self.port = int(port) if port else (443 if self.is_tls else 80)
        self.prefix = f"/{path}".rstrip("/")
        self.shown = url


def _host_and_port(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        return host, rest.removeprefix(":")
    host, _, port = authority.partition(":")
    return host, port


class Response:
    """An answer whose head has been read; its body is read once, whole, in lines, or not at all."""

    def __init__(self, sock: _socket.socket, buffer: bytes, status: int, headers: dict[str, str]) -> None:
        """Take over the connection; `buffer` is what was read past the head."""
        self._sock = sock
        self._buffer: bytes = buffer
        self.status = status
        self.headers = headers

    def close(self) -> None:
        """Let go of the connection; reading afterwards fails."""
        self._sock.close()

    def read(self) -> bytes:
        """Return the whole body and close the connection."""
        try:
            return b"".join(self._pieces())
        finally:
            self.close()

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it arrives and close the connection."""
        try:
            yield from self._pieces()
        finally:
            self.close()

    def lines(self) -> Iterator[str]:
        """Yield each line of the body as it arrives, without its ending."""
        rest = b""
        for piece in self._pieces():
            *whole, rest = (rest + piece).split(b"\n")
            for line in whole:
                yield line.removesuffix(b"\r").decode("utf-8", "replace")

    def _pieces(self) -> Iterator[bytes]:
        if self.status in (204, 304):
            return
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif "content-length" in self.headers:
            yield from self._exactly(_number(self.headers["content-length"].encode(), 10))
        else:
            yield self._take()
            while piece := receive(self._sock):
                yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = _number(self._line().split(b";", 1)[0], 16)
            if size == 0:
                return
            yield from self._exactly(size)
            self._line()

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            if not self._buffer:
                self._more()
            piece, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(piece)
            yield piece

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.strip()

    def _more(self) -> None:
        piece = receive(self._sock)
        if not piece:
            raise Unreachable(CUT, sent=True)
        self._buffer += piece

    def _take(self) -> bytes:
        piece, self._buffer = self._buffer, b""
        return piece


class File:
    """A body that is read while it is sent."""

    def __init__(self, source: BinaryIO, size: int) -> None:
        """Send `size` bytes of a file that is open."""
        self.size = size
        self._source = source

    def pieces(self) -> Iterator[bytes]:
        """Yield the file's bytes.

        Raises:
            CliError: It has become shorter.
        """
        left = self.size
        while left:
            piece = self._source.read(min(left, 65_536))
            if not piece:
                raise CliError("The file became shorter while it was sent; nothing was stored.")
            left -= len(piece)
            yield piece


def exchange(address: Address, head: list[str], body: bytes | File, timeout_s: float) -> Response:
    """Send one request and return the answer once its head is here.

    Args:
        head: Request line and header lines, without line endings; `Host` and framing are added.
        body: A file is sent in pieces.
        timeout_s: Longest silence while connecting, sending or receiving.

    Raises:
        Unreachable: No connection, or it broke; `sent` says whether the request may have arrived.
    """
    sock = _connect(address, timeout_s)
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [head[0], f"Host: {host}:{address.port}", "Connection: close", *head[1:]]
    if any(not line.isprintable() for line in lines):
        sock.close()
        raise CliError("A header of the request holds a character that cannot be sent (token or key?).")
    size = len(body) if isinstance(body, bytes) else body.size
    if size or not head[0].startswith(("GET ", "DELETE ")):
        lines.append(f"Content-Length: {size}")
    try:
        try:
            start = "\r\n".join([*lines, "", ""]).encode()
            sock.sendall(start + body if isinstance(body, bytes) else start)
            for piece in () if isinstance(body, bytes) else body.pieces():
                sock.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the server may have answered, and hung up, before it read all of the body
        return _read_head(sock)
    except OSError as error:
        sock.close()
        raise Unreachable(f"No answer from {address.shown}: {reason(error)}.", sent=True) from error
    except BaseException:
        sock.close()
        raise


def _connect(address: Address, timeout_s: float) -> _socket.socket:
    failure: OSError | None = None
    try:
        host = (
            address.host.encode() if address.host.isascii() else address.host
        )  # text would load the IDNA codec
        places = _socket.getaddrinfo(host, address.port, 0, _socket.SOCK_STREAM)
    except OSError:
        raise Unreachable(f"The host {address.host!r} is not known.", hint="Check --api-url.") from None
    for family, kind, proto, _, place in places:
        sock = _socket.socket(family, kind, proto)
        try:
            sock.settimeout(timeout_s)
            sock.connect(place)
            return _wrap(sock, address) if address.is_tls else sock
        except OSError as error:
            sock.close()
            failure = error
    why = reason(failure) if failure else "it has no address"
    raise Unreachable(f"No Tenuto server answers at {address.shown} ({why}).")


def _wrap(sock: _socket.socket, address: Address) -> _socket.socket:
    import socket
    import ssl

    full = socket.socket(sock.family, sock.type, sock.proto, fileno=sock.detach())
    return ssl.create_default_context().wrap_socket(full, server_hostname=address.host)


def _read_head(sock: _socket.socket) -> Response:
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            piece = receive(sock)
            if not piece:
                raise Unreachable(CUT, sent=True)
            buffer += piece
            if len(buffer) > MAX_HEAD and b"\r\n\r\n" not in buffer:
                raise Unreachable("The answer is not HTTP: its head does not end.", sent=True)
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        words = first.split(" ", 2)
        if not words[0].startswith("HTTP/1.") or len(words) < 2 or not words[1].isdigit():
            raise Unreachable("The answer is not HTTP/1.1; is this a Tenuto server?", sent=True)
        if int(words[1]) >= 200:
            pairs = (line.partition(":") for line in rest)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            return Response(sock, buffer, int(words[1]), headers)


def _number(text: bytes, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        raise Unreachable("The answer is not proper HTTP: a length is not a number.", sent=True) from None


def receive(sock: _socket.socket) -> bytes:
    """Return the next bytes, empty at the end of the connection.

    Raises:
        Unreachable: The connection broke or stayed silent too long.
    """
    try:
        return sock.recv(65_536)
    except OSError as error:
        raise Unreachable(f"{CUT} ({reason(error)})", sent=True) from error


def reason(error: OSError) -> str:
    """Name an operating-system failure in a few plain words."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    return (error.strerror or str(error) or type(error).__name__).rstrip(".")
