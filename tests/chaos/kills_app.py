"""The app of the workers that are killed: an agent of ten rounds, and a way to die at any one of its calls and commits.

`TENUTO_TEST_KILLS` names a folder. Its file `plan` says where to die in a run seen first from now on, as `kind:n`;
`ledger` gets a line for each effect of a tool, on the disk before the tool goes on; `passed` gets each point passed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tenuto import App, wiring

app = App("kills")
FOLDER = Path(os.environ.get("TENUTO_TEST_KILLS", "."))
ROUNDS = 10
_plans: dict[str, str] = {}
_counts: dict[str, Counter[str]] = {}


def _point(run: str) -> str:
    """Return where to die in a run, as the plan said when the run was first seen."""
    if run not in _plans:
        _plans[run] = (FOLDER / "plan").read_text()
        _counts[run] = Counter()
    return _plans[run]


def passing(run: str, kind: str) -> None:
    """Die here, if this is the place."""
    point = _point(run)
    if not point:
        return
    _counts[run][kind] += 1
    here = f"{kind}:{_counts[run][kind]}"
    if point == "none":
        _append("passed", here)
    elif point == here:
        os.kill(os.getpid(), signal.SIGKILL)


def _append(name: str, line: str) -> None:
    with (FOLDER / name).open("a") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def _used(tool: str, key: str) -> str:
    run = key.partition("/")[0]
    passing(run, "tool begun")
    _append("ledger", json.dumps({"run": run, "tool": tool, "key": key, "pid": os.getpid()}))
    passing(run, "tool done")
    return f"{tool} done"


@app.tool(effect="idempotent")
async def note(idempotency_key: str) -> str:
    """Write something down, the same however often."""
    return _used("note", idempotency_key)


@app.tool(effect="effect", unknown="retry")
async def charge(idempotency_key: str) -> str:
    """Charge a card, at a bank that knows its keys."""
    return _used("charge", idempotency_key)


@app.tool(effect="effect", unknown="ask")
async def send(idempotency_key: str) -> str:
    """Send a letter, which nobody can call back."""
    return _used("send", idempotency_key)


app.workflow("kills").budget(cost_usd=10).agent(
    "work", "loop", model="mine:m", prompt="Do all of it.", tools=[note, charge, send], max_tokens=50,
    limits={"rounds": ROUNDS},
)


def _dying(store: Any) -> Any:
    """Return a store that may die just before a commit is sent, or just after it was acknowledged."""
    commit = store.commit

    async def commit_and_die(batch: Any) -> Any:
        runs = [one.run_id for one in batch if one.record is not None]
        for run in runs:
            passing(run, "commit sent")
        results = await commit(batch)
        for run in runs:
            passing(run, "commit done")
        return results

    store.commit = commit_and_die
    return store


def _end_with_test() -> None:
    """End this process when the test is gone; nothing is written to a worker."""
    os.read(0, 1)
    os._exit(1)


def _serve_test() -> None:
    """Become a worker for every line the test writes: a fork of this process, warm, with everything still to open.

    Only the fork returns. This process says which one it made, and how it ended.
    """
    while sys.stdin.readline():
        pid = os.fork()
        if not pid:
            os.dup2(2, 1)
            threading.Thread(target=_end_with_test, daemon=True).start()
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    sys.exit(0)


if "TENUTO_TEST_KILLS" in os.environ:
    _open = wiring.open_store

    def _open_dying(*args: Any, **kwargs: Any) -> Any:
        return _dying(_open(*args, **kwargs))

    wiring.open_store = _open_dying
    for _name in ("genai_prices", "pydantic_ai.direct", "pydantic_ai.models.openai", "tenuto.bundled.serving"):
        importlib.import_module(_name)
    _serve_test()
