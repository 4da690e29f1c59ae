"""The README's agent does with a provider's key what it does without one, and the way it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tenuto.ports.providers import PROVIDERS, Provider, Providers
from tenuto.testing.servers import Answer, AnthropicServer, Rates, ToolUse
from tests.docs.pages import ROOT, Block, blocks

MODEL = "anthropic:claude-haiku-4-5"


def program() -> Block:
    """Return the agent of the README."""
    return next(block for block in blocks(ROOT / "README.md") if block.title == "agent.py")


def test_it_is_twenty_lines_and_the_same_on_its_page() -> None:
    text = program().text
    assert len([line for line in text.splitlines() if line.strip()]) <= 20
    assert next(block for block in blocks(ROOT / "docs/how-to/agents.md") if block.title == "agent.py").text == text
    assert f"MODEL={MODEL} python agent.py" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_needs_no_key(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(program().text, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if name != "MODEL" and not name.endswith("_API_KEY")}
    done = subprocess.run(
        [sys.executable, "agent.py"], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "refunded within two weeks" in done.stdout
    assert (tmp_path / ".tenuto" / "tenuto.db").exists()


async def test_with_a_key_its_model_calls_the_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", MODEL)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    found: dict[str, Any] = {"__name__": "agent"}
    exec(compile(program().text, "agent.py", "exec"), found)
    script = [
        Answer(tools=(ToolUse("policy", {"topic": "refund"}),), input_tokens=300, output_tokens=40),
        Answer(text="Yes, within two weeks.", input_tokens=380, output_tokens=12),
    ]
    async with AnthropicServer(script, rates=Rates(input="1", output="5"), secret="sk-canary") as server:
        shipped = PROVIDERS["anthropic"]
        here = Provider(name="anthropic", kind="anthropic", base_urls=(server.base_url,), key_env=shipped.key_env)
        async with found["app"].engine("memory:", providers=Providers(providers={"anthropic": here})) as engine:
            started = await engine.runs.start("desk", {"question": "Can I return my ticket?"})
            run = await engine.runs.result(started.id, timeout_s=20)
        assert run.status == "completed", run.error
        assert run.output["answer"]["content"] == "Yes, within two weeks."
        assert "refunded within two weeks (refund)" in run.output["answer"]["tools"]["policy"]
        assert run.budget.spent["cost_usd_micros"] == server.billed_usd_micros == 940
        assert run.budget.spent["tool_calls"] == 1
