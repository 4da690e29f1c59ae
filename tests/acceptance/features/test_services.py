"""`tenuto services`: what every live process reaches outside, from a server whose workers are processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.features.programs import TOKEN, Place, Program, environment, until

from tenuto.testing.servers import OpenAiServer

PLAIN = Path(__file__).parents[2] / "integration" / "mcp" / "plain_server.py"
KEY = "sk-canary-0ff1ce"


def command(server: Program, *argv: str) -> str:
    """Run the command line against a server and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tenuto", "services", *argv], capture_output=True, text=True, check=False, timeout=60,
        env=environment(server.home, TENUTO_API_URL=server.url, TENUTO_TOKEN=TOKEN),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def looked(server: Program) -> dict[str, dict[str, Any]]:
    """Let all look again; return the services by id."""
    found = json.loads(command(server, "--refresh", "--output", "json"))
    assert found["unanswered"] == []
    return {item["id"]: item for item in found["items"]}


async def test_every_process_tells_what_it_reaches(tmp_path: Path) -> None:
    """MCP servers, hosts of models and who saw them, in one list; a process that dies is in it no more."""
    async with OpenAiServer(secret=KEY) as models:
        home = tmp_path / "p0"
        home.mkdir()
        (home / "tenuto.toml").write_text(
            f'[providers.own]\nbase_urls = ["{models.base_url}"]\nkey_env = "MY_KEY"\n'
            '[providers.gone]\nbase_urls = ["http://127.0.0.1:9/v1"]\n'
            f'[mcp.plain]\ncommand = ["{sys.executable}", "{PLAIN}", "{tmp_path}/ledger"]\n'
            "[services]\ncheck_s = 3600\n"
        )
        await asyncio.to_thread(_told, tmp_path)
        assert not models.asked, "nothing that is paid for was asked"


def _told(tmp_path: Path) -> None:
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        server = place.serve("--workers", "2", env={"MY_KEY": KEY})
        client = place.client(server)

        def workers() -> dict[str, int]:
            return {item["id"]: item["pid"] for item in client.get("/workers").json()["items"] if item["alive"]}

        until("two workers live", lambda: len(workers()) == 2)
        both = set(workers())
        until("both have told", lambda: both <= {
            seen["process"] for item in client.get("/services").json()["items"] for seen in item["details"].get("seen_by", [])
        })  # fmt: skip
        found = looked(server)
        by = {seen["process"]: seen for seen in found["mcp:plain"]["details"]["seen_by"]}
        assert found["mcp:plain"]["status"] == "online"
        assert {name for name, seen in by.items() if seen["role"] == "worker"} == both
        assert [seen["status"] for seen in by.values() if seen["role"] == "api"] == ["unknown"]
        own = found["model:own"]
        assert own["status"] == "online"
        assert {seen["status"] for seen in own["details"]["seen_by"]} == {"online"}
        assert len(own["details"]["seen_by"]) == 3, "the server's own process, and its workers"
        assert found["model:gone"]["status"] == "offline"
        assert "connected" in found["model:gone"]["details"]["reason"]
        table = command(server)
        assert "3 processes" in table
        assert "it lists its models" in table
        dead = sorted(both)[0]
        os.kill(workers()[dead], signal.SIGKILL)
        until("the dead one is gone", lambda: dead not in {
            seen["process"] for seen in looked(server)["model:own"]["details"]["seen_by"]
        })  # fmt: skip
        assert KEY not in table + json.dumps(looked(server)) + server.text()
