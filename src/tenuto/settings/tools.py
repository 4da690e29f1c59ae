"""What the built-in tools may reach."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tenuto.settings.keys import between, key, one_of


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where the file tools read and write."""

    dir: str = key("", "directory of the workspaces; empty is `workspaces` in the data directory")
    scope: str = key("run", "whose a workspace is: each run's own, or shared by the runs of a project",
                     one_of("run", "project"))  # fmt: skip
    max_file_bytes: int = key(1_000_000, "longest file a tool may write", between(1, 2**40, " bytes"))
    max_bytes: int = key(100_000_000, "most a workspace may hold", between(1, 2**44, " bytes"))


def variable(value: str) -> str:
    """Return what is wrong with the name of a variable."""
    return "" if not value or value.isidentifier() else "must be the name of an environment variable"


@dataclass(frozen=True, kw_only=True)
class Mail:
    """Where `send_email` hands messages over."""

    host: str = key("", "mail server; empty switches send_email off")
    port: int = key(587, "its port", between(1, 65_535))
    security: str = key("starttls", "how the connection is kept secret", one_of("none", "starttls", "tls"))
    sender: str = key("", "address the messages are from")
    user: str = key("", "name to log in with; empty does not log in")
    password_env: str = key("", "environment variable that holds the password", variable, secret=True)
    allowed: tuple[str, ...] = key((), "addresses, or domains as @example.org, that may be written to; empty is all")


@dataclass(frozen=True, kw_only=True)
class Slack:
    """A destination of `slack_message`."""

    webhook_env: str = key("", "environment variable that holds the address of the webhook", variable, secret=True)


def endpoint(value: str) -> str:
    """Return what is wrong with the root of a server."""
    parts = urlsplit(value)
    plain = parts.scheme in ("http", "https") and parts.hostname and not (parts.path.strip("/") or parts.query)
    if not value or (plain and "@" not in parts.netloc):
        return ""
    return "must read http(s)://host or http(s)://host:port, without a user or a path"


@dataclass(frozen=True, kw_only=True)
class S3:
    """A bucket `s3_upload` may write to."""

    bucket: str = key("", "name of the bucket")
    endpoint: str = key("", "root of the server that has it; empty is Amazon's of the region", endpoint,
                        secret=True)  # fmt: skip
    region: str = key("us-east-1", "its region")
    access_key_env: str = key("", "environment variable that holds the id of the key", variable, secret=True)
    access_key_file: str = key("", "file that holds the id of the key")
    secret_key_env: str = key("", "environment variable that holds the secret of the key", variable, secret=True)
    secret_key_file: str = key("", "file that holds the secret of the key")
    session_token_env: str = key("", "environment variable that holds the token of a temporary key", variable, secret=True)
    session_token_file: str = key("", "file that holds the token of a temporary key")
    prefixes: tuple[str, ...] = key((), "directories of the bucket that may be written to; empty is all")
    max_bytes: int = key(100_000_000, "longest object that may be uploaded", between(1, 5 * 10**9, " bytes"))
    timeout_s: float = key(300.0, "seconds an upload may take", between(0.1, 86_400, " s"))


@dataclass(frozen=True, kw_only=True)
class Images:
    """The server of `generate_image`."""

    url: str = key("", "root of a server that speaks ComfyUI's protocol, such as http://127.0.0.1:8188")
    checkpoint: str = key("", "file name of the model it uses")
    timeout_s: float = key(600.0, "seconds an image may take", between(1, 86_400, " s"))


@dataclass(frozen=True, kw_only=True)
class Python:
    """What programs of the tool `python` may take."""

    enabled: bool = key(False, "let workflows run programs with the tool python")
    timeout_s: float = key(10.0, "seconds a program may take", between(0.1, 600, " s"))
    memory_mb: int = key(256, "memory a program may take, in MiB", between(64, 65_536, " MiB"))
    output_bytes: int = key(100_000, "most a program may print, and most its result may be", between(1, 10_000_000, " bytes"))
