"""Runs the code of one `python` call where it can only compute. Started as a program of its own, never imported.

Before the code runs, the process gives up for good: files outside of the interpreter's own (Landlock), sockets, other
processes and everything that reaches them (a system call filter), and more than its share of memory and time. If any of
it cannot be given up, the code does not run. The job comes on standard input, the result leaves on standard error.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import struct
import sys
import traceback

NO_NEW_PRIVS, SECCOMP, FILTER = 38, 22, 2
RULESET, RULE, RESTRICT = 444, 445, 446
READ = 1 << 0 | 1 << 2 | 1 << 3
X86_64 = 0xC000003E
CLONE, CLONE3, CLONE_THREAD = 56, 435, 0x10000
REFUSED = (
    41, 53, 57, 58, 59, 322,  # socket, socketpair, fork, vfork, execve, execveat
    62, 129, 200, 234, 297, 424, 434, 438,  # kill and its kin, pidfd_*
    101, 310, 311, 302, 141, 142, 144, 203, 251, 314,  # ptrace, process_vm_*, prlimit64, priorities of others
    76, 90, 91, 92, 93, 94, 260, 268, 452, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199,  # attributes of files
    29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240, 248, 249, 250,  # memory, queues and keys of others
    155, 159, 160, 161, 163, 164, 165, 166, 167, 168, 169, 170, 171, 172, 173, 175, 176, 179, 103, 227, 246, 272,
    298, 300, 303, 304, 305, 308, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442,  # the system
)


def main() -> None:
    """Give everything up, run the code, say what came of it."""
    job = json.loads(sys.stdin.buffer.read())
    answers = os.dup(2)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(1, 2)
    try:
        _limit(job["memory_bytes"], job["cpu_s"])
        _confine()
    except OSError as exc:
        _tell(answers, {"refused": str(exc)})
        return
    _tell(answers, _run(job["code"], job["input"]))


def _run(code: str, given: object) -> dict[str, object]:
    names: dict[str, object] = {"__name__": "__main__", "input": given}
    try:
        exec(compile(code, "<code>", "exec"), names)  # noqa: S102 (what this program is for)
        return {"result": json.dumps(names.get("result"), allow_nan=False)}
    except MemoryError:
        return {"error": "MemoryError: the code needs more memory than python.memory_mb allows"}
    except SystemExit as exc:
        return {"error": f"SystemExit: {exc}"} if exc.code not in (None, 0) else {"result": "null"}
    except BaseException as exc:  # noqa: BLE001 (whatever it is, it is the code's, and is told)
        line = next((f.lineno for f in reversed(traceback.extract_tb(exc.__traceback__)) if f.filename == "<code>"), None)
        return {"error": f"{type(exc).__name__}: {exc}" + (f" (line {line})" if line else "")}
    finally:
        sys.stdout.flush()


def _tell(answers: int, said: dict[str, object]) -> None:
    with os.fdopen(answers, "wb") as out:
        out.write(json.dumps(said).encode())


def _limit(memory: int, cpu_s: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, cpu_s), (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(what, (most, most))


def _confine() -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise OSError(f"it needs Linux on x86_64, and this is {sys.platform} on {platform.machine()}")
    libc = ctypes.CDLL(None, use_errno=True)
    _check(libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _files(libc)
    program = _program()
    code = ctypes.create_string_buffer(program, len(program))
    whole = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    _check(libc.prctl(SECCOMP, FILTER, ctypes.c_char_p(whole), 0, 0), "a filter of system calls")


def _files(libc: ctypes.CDLL) -> None:
    """Leave only the interpreter and its libraries, to be read."""
    version = _check(libc.syscall(RULESET, None, 0, 1), "Landlock")
    handled = (1 << min(13 + max(0, version - 1), 15)) - 1
    rules = _check(libc.syscall(RULESET, struct.pack("Q", handled), 8, 0), "Landlock")
    standard = os.path.dirname(os.path.realpath(os.__file__))
    for path in {standard, os.path.join(sys.base_prefix, "lib"), "/lib", "/lib64", "/usr/lib", "/usr/share/zoneinfo"}:
        if os.path.isdir(path):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            _check(libc.syscall(RULE, rules, 1, struct.pack("=Qi", READ, place), 0), "Landlock")
            os.close(place)
    _check(libc.syscall(RESTRICT, rules, 0), "Landlock")
    os.close(rules)


def _program() -> bytes:
    """Return a filter that lets pass what is not refused; another architecture's calls end the process."""
    eperm, enosys, allow, kill = 0x00050001, 0x00050026, 0x7FFF0000, 0x80000000

    def op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("HBBI", code, yes, no, value)

    load, same, least, has, give = 0x20, 0x15, 0x35, 0x45, 0x06
    found = [
        op(load, 4), op(same, X86_64, 1), op(give, kill), op(load, 0), op(least, 0x40000000, 0, 1), op(give, kill),
        op(same, CLONE3, 0, 1), op(give, enosys),
        op(same, CLONE, 0, 4), op(load, 16), op(has, CLONE_THREAD, 0, 1), op(give, allow), op(give, eperm),
    ]
    for number in REFUSED:
        found += [op(same, number, 0, 1), op(give, eperm)]
    return b"".join((*found, op(give, allow)))


def _check(answer: int, what: str) -> int:
    if answer < 0:
        raise OSError(f"this system does not give {what}: {os.strerror(ctypes.get_errno())}")
    return answer


if __name__ == "__main__":
    main()
