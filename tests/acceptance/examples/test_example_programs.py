"""The programs in `examples/` start with the command their README gives, offline, and end by themselves."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "examples"
SAYS = {
    "triage.py": "two weeks",
    "research_swarm.py": "Write a report",
    "stripe_refund.py": "'amount_cents': 4900",
    "conditional.py": "'percent': 70.0",
    "data_extraction.py": "in 1 lines",
    "durable_steps.py": "this is reminder 2",
    "mcp_lookup.py": "Clean Sails",
    "ops_automation.py": "restarts: 3",
    "pydantic_ai_agent.py": "Rome is warmer",
}


def start(name: str, place: Path, given: str = "", *args: str) -> subprocess.CompletedProcess[str]:
    """Run a program in an empty directory."""
    return subprocess.run(
        [sys.executable, str(FOLDER / name), *args], cwd=place, input=given, capture_output=True, text=True,
        timeout=60, check=False,
    )


@pytest.mark.parametrize("name", sorted(SAYS))
def test_a_program_runs_to_its_end(name: str, tmp_path: Path) -> None:
    """It prints its output and leaves its run in the default database."""
    done = start(name, tmp_path)
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
    assert (tmp_path / ".tenuto" / "tenuto.db").exists()


def test_calls_are_not_repeated_by_a_retry(tmp_path: Path) -> None:
    """The step of `durable_steps.py` fails after its work, and its calls are made once all the same."""
    assert start("durable_steps.py", tmp_path).stdout.count("composing reminder") == 2


KILLED_AT = """
import os, runpy, signal, sys

class Doomed:
    def write(self, text):
        sys.__stderr__.write(text)
        sys.__stderr__.flush()
        if sys.argv[2] in text:
            os.kill(os.getpid(), signal.SIGKILL)

    def flush(self):
        pass

sys.stderr = Doomed()
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def test_a_killed_pydantic_ai_agent_goes_on(tmp_path: Path) -> None:
    """SIGKILL inside its second tool call: started again, it makes that call again and none of those before."""
    program = str(FOLDER / "pydantic_ai_agent.py")
    command = [sys.executable, "-c", KILLED_AT, program, "looking up Rome"]
    killed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert killed.stderr.split("\n")[:2] == ["looking up Oslo", "looking up Rome"]
    done = start("pydantic_ai_agent.py", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "{'reporter': 'I sent it: Rome is warmer.'}"
    assert [line for line in done.stderr.splitlines() if line.startswith(("looking", "sending"))] == [
        "looking up Rome", "sending 'Rome is warmer.'"
    ]  # fmt: skip


@pytest.mark.parametrize(("answer", "output"), [("approve", "'refund'"), ("reject", "'declined'")])
def test_a_large_refund_asks_on_the_command_line(answer: str, output: str, tmp_path: Path) -> None:
    """A person is asked, and the answer decides."""
    done = start("stripe_refund.py", tmp_path, f"{answer}\n", "20000")
    assert done.returncode == 0, done.stderr
    assert "Refund 20000 cents of ch_4711?" in done.stdout
    assert output in done.stdout


def test_the_readme_lists_every_program() -> None:
    """Each program has its line, and each line its program."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`python examples/([\w.]+)`", text)) == {*SAYS, "adaptive"}
    assert {path.name for path in FOLDER.glob("*.py")} == set(SAYS)
