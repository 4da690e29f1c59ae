"""Optimizers as WebAssembly, through `wasmtime`: each call is an instance of its own that can reach nothing.

A module is stopped at the first of its bounds it meets: instructions are counted (`fuel`), memory cannot grow past its
limit, and a clock beside it (`Ticker`) ends what takes too long in real time, starting included. Compiled modules are
kept in memory only: native code read back from a disk would be trusted without anyone having checked it.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Lock
from typing import Any, cast

import msgspec
import wasmtime

from tenuto.adapters.optimizers.exports import ABI_EXPORTS, fault_of
from tenuto.adapters.optimizers.ticker import TICK_S, Ticker
from tenuto.ports.optimizers import ABI, Answer, Bounds, OptimizerStopped, Suggestion, Task

MODULE_BYTES = 2 * 1024 * 1024
"""Largest module that is compiled; compiling is the one thing no bound can interrupt."""

COMPILED = 32
STACK = 512 * 1024
NOTHING_LEFT = 1024 * 1024
TABLE_ELEMENTS = 100_000
DEEPEST = 100
"""Levels of a reply; what looks through its operations later goes down them by calls."""

_TRAPS = {
    "STACK_OVERFLOW": "its calls nest deeper than the stack allows",
    "MEMORY_OUT_OF_BOUNDS": "it used memory it does not have",
    "UNREACHABLE": "it gave up (unreachable code was reached)",
    "INTEGER_DIVISION_BY_ZERO": "it divided by zero",
    "INTEGER_OVERFLOW": "an integer overflowed",
    "INDIRECT_CALL_TO_NULL": "it called a function that is not there",
    "BAD_SIGNATURE": "it called a function with the wrong signature",
    "TABLE_OUT_OF_BOUNDS": "it used a table beyond its end",
    "BAD_CONVERSION_TO_INTEGER": "it made an integer of a number that is none",
}


_NESTING = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', re.DOTALL)


class _Reply(msgspec.Struct, frozen=True):
    suggestions: tuple[Suggestion, ...]


class WasmSandbox:
    """The sandbox of `ports.optimizers`; one a process, shared by all that run optimizers.

    Calls run on threads of its own, so that the event loop is never held, and `close` ends what runs beside them.
    """

    def __init__(self, *, threads: int = 2) -> None:
        self._engine = wasmtime.Engine(_config())
        self._ticker = Ticker(self._engine.increment_epoch)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="tenuto-optimizer")
        self._compiled: OrderedDict[str, wasmtime.Module] = OrderedDict()
        self._lock = Lock()

    async def check(self, module: bytes) -> None:
        """Raise `OptimizerStopped` when a module cannot be a plug-in; see the port."""
        await self._apart(self._check, module)

    async def run(self, module: bytes, task: Task, bounds: Bounds) -> Answer:
        """Return what a plug-in answers; see the port."""
        return await self._apart(self._run, module, msgspec.json.encode(task), bounds)

    def close(self) -> None:
        """Wait for the calls under way, which their bounds end, and stop the clock."""
        self._threads.shutdown(wait=True)
        self._ticker.close()

    async def _apart(self, work: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    def _check(self, module: bytes) -> None:
        with self._ticker.ticking():
            _Call(self._engine, self._module(module), Bounds()).open()

    def _run(self, module: bytes, task: bytes, bounds: Bounds) -> Answer:
        compiled = self._module(module)
        began = time.monotonic()
        with self._ticker.ticking():
            call = _Call(self._engine, compiled, bounds)
            reply = call.run(task)
        suggestions = _read(reply)
        return Answer(
            suggestions=suggestions, fuel=call.fuel(), memory=call.memory(), ms=(time.monotonic() - began) * 1000
        )

    def _module(self, module: bytes) -> wasmtime.Module:
        digest = sha256(module).hexdigest()
        with self._lock:
            known = self._compiled.get(digest)
            if known is not None:
                self._compiled.move_to_end(digest)
                return known
        compiled = self._compile(module)
        with self._lock:
            self._compiled[digest] = compiled
            while len(self._compiled) > COMPILED:
                self._compiled.popitem(last=False)
        return compiled

    def _compile(self, module: bytes) -> wasmtime.Module:
        if len(module) > MODULE_BYTES:
            raise OptimizerStopped(
                "module", f"the module has {len(module):,} bytes; a plug-in may have {MODULE_BYTES:,} at most"
            )
        if module[:4] != b"\0asm":
            raise OptimizerStopped("module", "this is no WebAssembly module: it does not begin with \\0asm")
        try:
            compiled = wasmtime.Module(self._engine, module)
        except wasmtime.WasmtimeError as error:
            raise OptimizerStopped("module", f"the module cannot be compiled: {_last_line(error)}") from None
        if fault := fault_of(compiled):
            raise OptimizerStopped("module", fault)
        return compiled


class _Call:
    """One call in an instance of its own, from its first instruction to its reply."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module, bounds: Bounds) -> None:
        self.bounds = bounds
        self.module = module
        self.store = wasmtime.Store(engine)
        self.store.set_limits(
            memory_size=bounds.memory, table_elements=TABLE_ELEMENTS, instances=1, tables=4, memories=1
        )
        self.store.set_fuel(bounds.fuel)
        # The tick under way may end at any moment, so that one more is needed to last the whole time.
        self.store.set_epoch_deadline(math.ceil(bounds.time_s / TICK_S) + 1)
        self.exports: dict[str, Any] = {}
        self.began_with = 0

    def open(self) -> None:
        """Start the instance and ask which ABI it speaks."""
        try:
            exports = wasmtime.Instance(self.store, self.module, []).exports(self.store)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise self._stopped(error, "as it started") from None
        self.exports = {name: exports[name] for name in ABI_EXPORTS}
        self.began_with = self.memory()
        spoken = self._call("abi")
        if spoken != ABI:
            raise OptimizerStopped(
                "module", f"the module speaks version {spoken} of the ABI of optimizers; this Tenuto speaks version {ABI}"
            )

    def run(self, task: bytes) -> bytes:
        """Return what the plug-in replies to a task."""
        self.open()
        at = self._call("alloc", len(task)) & 0xFFFFFFFF
        self._within(at, len(task), "`alloc` returned")
        self.exports["memory"].write(self.store, task, at)
        packed = self._call("run", _signed(at), len(task))
        at, size = packed >> 32 & 0xFFFFFFFF, packed & 0xFFFFFFFF
        if size > self.bounds.reply:
            raise OptimizerStopped(
                "reply", f"the reply is said to have {size:,} bytes; {self.bounds.reply:,} are allowed"
            )
        self._within(at, size, "`run` returned")
        return bytes(self.exports["memory"].read(self.store, at, at + size))

    def fuel(self) -> int:
        """Return the instructions counted so far."""
        return self.bounds.fuel - self.store.get_fuel()

    def memory(self) -> int:
        """Return the bytes of memory, which never shrink within a call; 0 before the instance exists."""
        return self.exports["memory"].data_len(self.store) if self.exports else 0

    def _call(self, name: str, *args: int) -> int:
        try:
            return cast("int", self.exports[name](self.store, *args))
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            raise self._stopped(error, f"in `{name}`") from None

    def _within(self, at: int, size: int, what: str) -> None:
        memory = self.memory()
        if at + size > memory:
            raise OptimizerStopped(
                "reply", f"{what} address {at:,} for {size:,} bytes, which is outside its memory of {memory:,} bytes"
            )

    def _stopped(self, error: Exception, where: str) -> OptimizerStopped:
        code = error.trap_code if isinstance(error, wasmtime.Trap) else None
        name = code.name if code is not None else ""
        end = {
            "OUT_OF_FUEL": ("fuel", f"it used up its fuel of {self.bounds.fuel:,} instructions"),
            "INTERRUPT": ("time", f"it took longer than {self.bounds.time_s:g} s"),
        }.get(name, ("trap", _TRAPS.get(name, name.lower().replace("_", " "))))
        if not name:
            end = _refused(error, self.bounds)
        elif self._full(name):
            end = ("memory", f"it wanted more memory than its {self.bounds.memory:,} bytes, and then {end[1]}")
        return OptimizerStopped(end[0], f"the optimizer was stopped {where}: {end[1]}")  # type: ignore[arg-type]

    def _full(self, trap: str) -> bool:
        """Whether growing memory met its limit, which a module is told and nobody else is.

        One that gives up has asked for as much again, at most; one that goes on in vain has next to nothing left.
        """
        size = self.memory()
        left = self.bounds.memory - size
        lacking = {"UNREACHABLE": left < size, "OUT_OF_FUEL": left < NOTHING_LEFT, "INTERRUPT": left < NOTHING_LEFT}
        return size > self.began_with and lacking.get(trap, False)


def _config() -> wasmtime.Config:
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.max_wasm_stack = STACK
    # The same task costs the same fuel and gets the same answer everywhere.
    config.cranelift_nan_canonicalization = True
    config.wasm_relaxed_simd = False
    # What no plug-in needs would only be more to guard.
    config.wasm_threads = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_component_model = False
    # Objects of the engine's own heap would be memory beside the one that is limited.
    config.wasm_gc = False
    config.wasm_function_references = False
    config.wasm_exceptions = False
    return config


def _read(reply: bytes) -> tuple[Suggestion, ...]:
    try:
        text = reply.decode()
    except UnicodeDecodeError as error:
        raise OptimizerStopped("reply", f"the reply is not UTF-8: byte {error.start:,} fits nothing") from None
    if (deep := _depth(text)) > DEEPEST:
        raise OptimizerStopped("reply", f"the reply is nested {deep:,} levels deep; {DEEPEST} are allowed")
    try:
        return msgspec.json.decode(text, type=_Reply).suggestions
    except msgspec.ValidationError as error:
        raise OptimizerStopped("reply", f"the reply does not have the form of an answer: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise OptimizerStopped("reply", f"the reply is not JSON: {error}") from None


def _depth(text: str) -> int:
    """Return how deeply JSON is nested; what stands in texts does not count."""
    deep = deepest = 0
    for mark in _NESTING.findall(text):
        if mark in "[{":
            deep += 1
            deepest = max(deepest, deep)
        elif mark in "]}":
            deep -= 1
    return deepest


def _refused(error: Exception, bounds: Bounds) -> tuple[str, str]:
    """Return what an error that is no trap means: a module that asks for more than there is before it begins."""
    text = _last_line(error)
    if "memory" in text and "limit" in text:
        return "memory", f"it asks for more memory than its {bounds.memory:,} bytes from the start"
    return "module", text


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200].removeprefix("0: ") if lines else type(error).__name__


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
