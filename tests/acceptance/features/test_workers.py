"""A server with worker processes of its own: as many as asked, replaced when they die, gone when it is gone."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import httpx
import pytest
from tests.acceptance.features.programs import Place, ended, events, start, until

PAIR = ("--workers", "2")


def alive(client: httpx.Client) -> set[int]:
    """Return the process ids of the workers that live."""
    return {worker["pid"] for worker in client.get("/workers").json()["items"] if worker["alive"]}


def exists(pid: int) -> bool:
    """Tell whether a process runs; one that ended and waits for its parent's look does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_server_starts_as_many_workers_as_asked_and_ends_them_with_itself(tmp_path: Path, both_url: str) -> None:
    with Place(tmp_path, both_url, "odd_app:app") as place:
        server = place.serve(*PAIR)
        client = place.client(server)
        pids = until("two workers live", lambda: found if len(found := alive(client)) == 2 else None)
        assert server.process.pid not in pids
        assert ended(client, start(client, "fine"))["status"] == "completed"
        assert server.stop() == 0
        assert not any(exists(pid) for pid in pids)
        assert "did not stop" not in server.text()


def test_a_worker_that_dies_is_replaced_and_its_run_goes_on(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        server = place.serve(*PAIR)
        client = place.client(server)
        before = until("two workers live", lambda: found if len(found := alive(client)) == 2 else None)
        run = start(client, "held", {"path": str(gate)})
        until("it holds", lambda: events(client, run, node="holds", type="step.started"))
        owner = client.get(f"/runs/{run}").json()["worker"]
        (pid,) = {w["pid"] for w in client.get("/workers").json()["items"] if w["id"] == owner}
        os.kill(pid, signal.SIGKILL)
        server.says(f"worker process {pid} was killed by signal 9; starting another")
        after = until("two workers live again", lambda: found if len((found := alive(client)) - {pid}) == 2 else None)
        assert len(after - before - {pid}) == 1, "one is new, the other is the old one"
        gate.touch()
        assert ended(client, run)["status"] == "completed"


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_workers_do_not_outlive_a_server_that_was_killed(tmp_path: Path) -> None:
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "odd_app:app") as place:
        server = place.serve(*PAIR)
        client = place.client(server)
        pids = until("two workers live", lambda: found if len(found := alive(client)) == 2 else None)
        server.kill()
        until("its workers end", lambda: not any(exists(pid) for pid in pids))


def test_a_worker_that_cannot_start_is_tried_ever_later(tmp_path: Path) -> None:
    """The app can be imported once, by the server, and never again."""
    path = tmp_path / "once.py"
    path.write_text(
        "import pathlib, tenuto\nmark = pathlib.Path(__file__).with_suffix('.mark')\n"
        "if mark.exists():\n    raise RuntimeError('not twice')\nmark.touch()\napp = tenuto.App()\n"
    )
    with Place(tmp_path, f"sqlite:///{tmp_path}/t.db", "once:app") as place:
        server = place.serve(*PAIR, env={"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])})
        server.says("starting another in 1 s")
        assert "not twice" in server.text()
        assert server.process.poll() is None
        assert server.stop() in (0, 1)


@pytest.mark.parametrize(
    ("argv", "said"),
    [(("serve", "--workers", "2"), "memory store lives in one process"),
     (("worker", "--processes", "2"), "memory store lives in one process"),
     (("worker", "--processes", "0"), "starts no worker")],
)  # fmt: skip
def test_what_cannot_work_is_refused_before_it_starts(tmp_path: Path, argv: tuple[str, ...], said: str) -> None:
    with Place(tmp_path, "memory://") as place:
        program = place.start(argv[0], *argv[1:], *(("--port", "0") if argv[0] == "serve" else ()))
        program.says(said)
        assert program.process.wait(20) == 1
