"""Everything a person can set, read once at startup from flags, environment and file, in that order of strength.

`load` reports every unknown key and bad value at once and starts nothing. The result is frozen; only wiring and the
entry points read it. Secrets never appear in messages or in `repr`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tenuto.errors import InvalidSettings, Problem
from tenuto.settings import keys
from tenuto.settings.artifacts import Artifacts
from tenuto.settings.cache import CacheSettings
from tenuto.settings.encryption import Encryption
from tenuto.settings.keys import between, key, meant, one_of, section, table
from tenuto.settings.knowledge import KnowledgeSettings
from tenuto.settings.limits import Limits
from tenuto.settings.mcp import Mcp
from tenuto.settings.models import (
    FallbackPrice,
    PriceSettings,
    ProviderSettings,
    RouteSettings,
    TierSettings,
    model_problems,
)
from tenuto.settings.money import Caps
from tenuto.settings.notify import Links, Notifications, Notify
from tenuto.settings.optimizers import Optimizers
from tenuto.settings.patches import Patches
from tenuto.settings.people import Group
from tenuto.settings.services import Services
from tenuto.settings.starts import StartRates
from tenuto.settings.telemetry import Telemetry
from tenuto.settings.tools import S3, Images, Mail, Python, Slack, Workspace

FILE_NAME = "tenuto.toml"
MIN_TOKEN = 16
MEBIBYTE = 1024 * 1024

# Read by other parts of the program, so no misspelling of ours.
_OTHER_VARIABLES = frozenset({"TENUTO_API_URL", "TENUTO_CONFIG", "TENUTO_EXTRAS", "TENUTO_OUTPUT"})
_OTHER_PREFIXES = ("TENUTO_TEST_", "TENUTO_BENCH_", "TENUTO_CHAOS_")

def _strong(value: str) -> str:
    if not value:
        return ""
    if len(value) < MIN_TOKEN:
        return f"has {len(value)} characters; a token needs at least {MIN_TOKEN}"
    if not value.isascii() or not value.isprintable() or " " in value:
        return "may hold printable ASCII without spaces only, because it travels in a header"
    return ""


def _database(value: str) -> str:
    scheme = value.partition(":")[0]
    if scheme in ("postgres", "postgresql"):
        return "" if "://" in value else "must read postgresql://user@host/database"
    if scheme == "sqlite":
        if not value.startswith("sqlite:///"):
            return "must read sqlite:///path/to/file.db (sqlite:////absolute/path.db for an absolute path)"
        return "" if len(value) > len("sqlite:///") else "names no file"
    if scheme == "memory":
        return ""
    return f"has the unknown scheme {scheme!r}; use sqlite:///FILE, postgresql://… or memory://"


def _origins(values: tuple[str, ...]) -> str:
    for value in values:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query or parts.fragment:
            return f"holds {value!r}; an origin reads https://host or https://host:port, without a path or a wildcard"
    return ""


def _hosts(values: tuple[str, ...]) -> str:
    for value in values:
        if not value or any(mark in value for mark in "/*: "):
            return f"holds {value!r}; give plain host names, without scheme, port or wildcard"
    return ""


def _host(value: str) -> str:
    return "" if value and not any(mark in value for mark in "/ ") else "must be an address or a host name"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of one process; every value has been checked when it came through `load`.

    Attributes:
        database: URL of the store.
        allowed_hosts: Names under which the server may be called beside its own address and loopback.
        token: Fixed by the operator; empty means the one kept in `data_dir`, made at first start.
    """

    host: str = key("127.0.0.1", "address to listen on", _host)
    port: int = key(8321, "port to listen on; 0 takes a free one", between(0, 65_535))
    database: str = key(
        "sqlite:///.tenuto/tenuto.db", "URL of the store: sqlite:///FILE or postgresql://…", _database,
        env=("TENUTO_DATABASE_URL",), secret=True,
    )  # fmt: skip
    data_dir: str = key(".tenuto", "directory of the token, the server's address and the default database",
                         env=("TENUTO_HOME",))  # fmt: skip
    token: str = key("", "the bearer token clients must show", _strong, secret=True)
    no_auth: bool = key(False, "let everybody in; only on a loopback address")
    cors_origins: tuple[str, ...] = key((), "origins of pages elsewhere that may call the API", _origins)
    allowed_hosts: tuple[str, ...] = key((), "host names the server is reached by behind a proxy", _hosts)
    http_allow: tuple[str, ...] = key((), "hosts, as host or host:port, that steps may call although not public")
    log_level: str = key("info", "least severe log line that is written", one_of("debug", "info", "warning", "error"))
    log_format: str = key("text", "how log lines are written", one_of("text", "json"))
    lease_s: float = key(10.0, "seconds after which a silent worker's runs are taken over", between(1, 3600, " s"))
    workers: int = key(1, "workers of the server: 1 works inside it, more are processes of their own, 0 is none",
                        between(0, 64))  # fmt: skip
    concurrency: int = key(256, "steps one worker executes at a time", between(1, 100_000))
    max_runs: int = key(1000, "runs one worker holds in memory at a time", between(1, 1_000_000))
    max_body_bytes: int = key(32 * MEBIBYTE, "largest request body", between(1024, 1024 * MEBIBYTE, " bytes"))
    max_yaml_bytes: int = key(MEBIBYTE, "largest YAML body", between(1024, 16 * MEBIBYTE, " bytes"))
    rate_limit: float = key(0.0, "requests a second from one address; 0 sets no limit", between(0, 1_000_000))
    start_rates: StartRates = section(StartRates, "how often one caller may start runs over HTTP")
    stop_grace_s: float = key(30.0, "seconds running steps get to finish at shutdown", between(0, 3600, " s"))
    caps: Caps = section(Caps, "what all runs together may spend")
    project_caps: Mapping[str, Caps] = table(Caps, "what the runs labelled `project=NAME` may spend together")
    knowledge: KnowledgeSettings = section(KnowledgeSettings, "how knowledge bases are kept and searched")
    workspace: Workspace = section(Workspace, "where the file tools read and write")
    mail: Mail = section(Mail, "where send_email hands messages over")
    slack: Mapping[str, Slack] = table(Slack, "destinations of slack_message")
    s3: Mapping[str, S3] = table(S3, "buckets of s3_upload")
    images: Images = section(Images, "server of generate_image")
    python: Python = section(Python, "the tool python")
    local_llm: str = key("", "model of the tool local_llm, `provider:model` of a provider on machines of one's own")
    providers: Mapping[str, ProviderSettings] = table(ProviderSettings, "providers of models")
    prices: Mapping[str, PriceSettings] = table(PriceSettings, "prices by `provider:model`")
    fallback_price: FallbackPrice = section(FallbackPrice, "price of models that no catalogue knows")
    tiers: Mapping[str, TierSettings] = table(TierSettings, "tiers of models, cheapest first")
    routes: Mapping[str, RouteSettings] = table(RouteSettings, "tiers by type of task")
    mcp: Mapping[str, Mcp] = table(Mcp, "MCP servers whose tools workflows may use, as NAME.TOOL")
    artifacts: Artifacts = section(Artifacts, "where artifacts are kept")
    cache: CacheSettings = section(CacheSettings, "how results of steps are kept for others")
    services: Services = section(Services, "how it is looked at what is outside")
    encryption: Encryption = section(Encryption, "encryption of what is stored")
    patches: Patches = section(Patches, "how the graph of a run may be patched while it runs")
    limits: Limits = section(Limits, "what one run may do before a person is asked whether it is to go on")
    optimizers: Optimizers = section(Optimizers, "how optimizers are asked, and what follows by itself")
    groups: Mapping[str, Group] = table(Group, "people who may decide as `group:NAME`")
    notify: Mapping[str, Notify] = table(Notify, "channels by which people are told of questions")
    notifications: Notifications = section(Notifications, "how patiently people are told")
    links: Links = section(Links, "links by which a person decides")
    telemetry: Telemetry = section(Telemetry, "spans and metrics")
    retention_days: float = key(0.0, "days an ended run is kept; 0 keeps it for ever", between(0, 36_500, " days"))
    usage_days: float = key(0.0, "days it is kept what calls cost, also when their runs are gone; 0 keeps it for ever",
                            between(0, 36_500, " days"))  # fmt: skip

    def is_loopback(self) -> bool:
        """Return whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


_FIELDS = {item.name: item for item in dataclasses.fields(Settings)}
VARIABLES = {f"TENUTO_{name.upper()}": name for name in _FIELDS} | {
    variable: name for name, item in _FIELDS.items() for variable in item.metadata["env"]
}
"""Environment variable -> setting."""


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    file: str | os.PathLike[str] | None = None,
) -> Settings:
    """Return the settings in force: flags beat environment beats file beats defaults.

    Args:
        flags: By setting's name; `None` values mean "not given".
        environ: `None` reads the process's own environment.
        file: `None` reads `TENUTO_CONFIG`, else `tenuto.toml` in the working directory if there is one.

    Raises:
        InvalidSettings: With every unknown key and bad value of all three sources.
    """
    env = os.environ if environ is None else environ
    problems: list[Problem] = []
    given: dict[str, tuple[str, Any]] = {}
    _from_file(file or env.get("TENUTO_CONFIG"), given, problems)
    _from_environment(env, given, problems)
    for name, value in (flags or {}).items():
        if value is not None:
            _take(given, problems, name, value, f"--{name.replace('_', '-')}")
    values = {name: keys.read(_FIELDS[name], where, raw, problems) for name, (where, raw) in given.items()}
    if problems:
        raise InvalidSettings(_headline(problems), problems=tuple(problems))
    settings = Settings(**values)
    if "database" not in values and "data_dir" in values:
        path = str(Path(settings.data_dir) / "tenuto.db")
        settings = dataclasses.replace(settings, database=f"sqlite:///{path}")
    problems += _together(settings, given)
    problems += model_problems(settings.providers, settings.prices, settings.tiers, settings.routes)
    if problems:
        raise InvalidSettings(_headline(problems), problems=tuple(problems))
    return settings


def describe() -> list[dict[str, Any]]:
    """Return name, variables, default and help of every setting, for flags, docs and `doctor`.

    Keys of sections are named `section.key`, those of tables `table.NAME.key`.
    """
    found: list[dict[str, Any]] = []
    for name, item in _FIELDS.items():
        variables = [variable for variable, target in VARIABLES.items() if target == name]
        found += keys.described(name, item, variables)
    return found


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables from which `load` reads these very settings, whatever a file says."""
    values = {name: getattr(settings, name) for name in _FIELDS}
    return {f"TENUTO_{name.upper()}": keys.as_text(value) for name, value in values.items()}


def _headline(problems: Sequence[Problem]) -> str:
    return "a setting is wrong" if len(problems) == 1 else f"{len(problems)} settings are wrong"


def _from_file(
    file: str | os.PathLike[str] | None, given: dict[str, tuple[str, Any]], problems: list[Problem]
) -> None:
    path = Path(file or FILE_NAME)
    if not file and not path.is_file():
        return
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.append(Problem(str(path), f"cannot be read: {error.strerror}", code="settings.file"))
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        problems.append(Problem(str(path), f"is not TOML: {error}", code="settings.file"))
        return
    for name, value in document.items():
        _take(given, problems, name, value, f"{path}: {name}")


def _from_environment(env: Mapping[str, str], given: dict[str, tuple[str, Any]], problems: list[Problem]) -> None:
    for variable in sorted(env):
        if not variable.startswith("TENUTO_") or variable in _OTHER_VARIABLES or variable.startswith(_OTHER_PREFIXES):
            continue
        name = VARIABLES.get(variable)
        if name is None:
            hint = meant(variable, tuple(VARIABLES))
            problems.append(
                Problem(variable, "is no setting of this version", hint=hint.lstrip("; "), code="settings.unknown")
            )
        elif env[variable]:  # an empty variable is one that a template left open
            given[name] = (variable, env[variable])


def _take(
    given: dict[str, tuple[str, Any]], problems: list[Problem], name: str, value: Any, where: str
) -> None:
    if name in _FIELDS:
        given[name] = (where, value)
        return
    hint = meant(name, tuple(_FIELDS)).lstrip("; ") or f"settings are {', '.join(_FIELDS)}"
    problems.append(Problem(where, "is no setting of this version", hint=hint, code="settings.unknown"))


def _together(settings: Settings, given: Mapping[str, tuple[str, Any]]) -> list[Problem]:
    """Return what is wrong with values that are fine one by one."""
    problems: list[Problem] = []
    where = given.get("no_auth", ("no_auth", None))[0]
    if settings.no_auth and not settings.is_loopback():
        message = f"opens the server to everybody who can reach {settings.host!r}; it is for loopback addresses only"
        problems.append(Problem(where, message, hint="drop it, or listen on 127.0.0.1", code="settings.no_auth"))
    if settings.no_auth and settings.token:
        message = "contradicts a fixed token"
        problems.append(Problem(where, message, hint="give one of the two", code="settings.no_auth"))
    return problems
