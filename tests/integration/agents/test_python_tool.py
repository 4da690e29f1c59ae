"""The tool `python`: it computes within its limits, and reaches nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tenuto.runtime.tools.builtin.kit import Kit, PythonLimits, ToolNotSetUp
from tenuto.runtime.tools.builtin.python import PythonFailed
from tenuto.runtime.tools.builtin.tools import builtin_tools
from tenuto.runtime.tools.call import invoke
from tenuto.runtime.tools.catalog import CallInfo
from tenuto.sdk.toolbox import kit_of
from tenuto.settings import load


async def run(code: str, given: Any = None, **limits: Any) -> Any:
    tool = builtin_tools(Kit(python=PythonLimits(**limits)))["python"]
    return await invoke(tool, {"code": code, "input": given}, CallInfo(key="k"))


async def test_a_program_computes_prints_and_answers():
    code = "import statistics\nprint('häh', input)\nresult = {'mean': statistics.mean(input)}"
    assert await run(code, [1, 2, 6]) == {"stdout": "häh [1, 2, 6]\n", "result": {"mean": 3}}
    assert await run("1 / 0") == {"stdout": "", "error": "ZeroDivisionError: division by zero (line 1)"}
    assert "SyntaxError" in (await run("what now?"))["error"]
    threads = "import threading\nt = threading.Thread(target=print, args=('in a thread',))\nt.start(); t.join()"
    assert (await run(threads))["stdout"] == "in a thread\n"


async def test_it_is_off_unless_it_is_switched_on(tmp_path: Path):
    settings = load({"data_dir": str(tmp_path)}, {})
    with pytest.raises(ToolNotSetUp, match=r"python\.enabled"):
        await invoke(builtin_tools(kit_of(settings))["python"], {"code": "1"}, CallInfo(key="k"))


@pytest.mark.parametrize(("code", "limits", "told"), [
    ("while True: pass", {"timeout_s": 0.5}, "did not end within 0.5 s"),
    ("import time; time.sleep(60)", {"timeout_s": 0.5}, "did not end within 0.5 s"),
    ("while True: print('x' * 1000)", {"output_bytes": 10_000}, "more than 10,000 bytes"),
    ("result = 'x' * 100_000", {"output_bytes": 10_000}, "more than 10,000 bytes"),
    ("import ctypes; ctypes.string_at(0)", {}, "ended by SIGSEGV"),
], ids=["busy", "asleep", "loud", "large", "crash"])  # fmt: skip
async def test_each_limit_ends_the_program_and_says_which(code: str, limits: dict[str, Any], told: str):
    with pytest.raises(PythonFailed, match=told):
        await run(code, **limits)


async def test_memory_is_bounded():
    assert "memory" in (await run("x = bytearray(1 << 30)"))["error"]


@pytest.mark.parametrize("code", [
    "import os; os.fork()",
    "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "import subprocess; subprocess.run(['/bin/true'])",
    "import os; os.execv('/bin/true', ['true'])",
    "import socket; socket.create_connection(('127.0.0.1', 80))",
    "import socket; socket.socket(socket.AF_UNIX)",
    "import os; os.kill(os.getppid(), 0)",
    "import os; open(f'/proc/{os.getppid()}/environ').read()",
    "open('/proc/self/environ').read()",
    "open('/etc/passwd').read()",
    "import os; os.listdir('/')",
    "open('/tmp/tenuto-escape', 'w')",
    "import os; os.mkdir('/tmp/tenuto-escape')",
    "import os; os.chmod('/tmp', 0o777)",
    "import os; os.truncate(input, 0)",
    "import os; os.unlink(input)",
    "import os; os.rename(input, input + '2')",
    "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (1, 1))",
])  # fmt: skip
async def test_what_is_no_computing_is_refused(code: str, tmp_path: Path):
    own = tmp_path / "own"
    own.write_text("kept")
    answer = await run(code, str(own))
    assert "PermissionError" in answer.get("error", ""), answer
    assert own.read_text() == "kept"
    assert not Path("/tmp/tenuto-escape").exists()


async def test_no_secret_of_the_worker_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CANARY_KEY", "canary-secret")
    found = await run("import os, sys; print(dict(os.environ), sys.argv, sys.path, os.getcwd())\n"
                      "for fd in range(3, 64):\n    try: print('open', os.fstat(fd))\n    except OSError: pass\n"
                      "result = list(os.environ)")  # fmt: skip
    assert "canary" not in str(found)
    assert "CANARY_KEY" not in found["result"]
    assert os.environ["CANARY_KEY"] == "canary-secret"


async def test_a_bomb_of_processes_starts_none():
    code = "import os\nn = 0\nfor _ in range(10_000):\n    try: os.fork()\n    except PermissionError: n += 1\nresult = n"
    assert (await run(code))["result"] == 10_000
