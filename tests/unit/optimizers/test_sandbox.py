"""Optimizers in their sandbox: what a good one gets, and how each bad one is stopped."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from tenuto.adapters.optimizers.sandbox import MODULE_BYTES, WasmSandbox
from tenuto.errors import InvalidSettings
from tenuto.ports.optimizers import Bounds, Limits, NodeStatistics, OptimizerStopped, Statistics, Task
from tenuto.wiring import open_sandbox
from tests.unit.optimizers.modules import (
    ABI,
    ECHO,
    GROW,
    GROW_OR_DIE,
    LOOP,
    module,
    replying,
    running,
)  # fmt: skip

TASK = Task(
    workflow={"name": "w", "nodes": [{"id": "a", "kind": "transform"}]},
    version="0" * 64,
    statistics=Statistics(runs=3, nodes={"a": NodeStatistics(completed=3, p50_ms=1.5)}),
    limits=Limits(max_agents=5, max_nodes=100, max_operations=50),
)
SMALL = Bounds(fuel=10_000_000, memory=4 * 1024 * 1024, time_s=1.0, reply=10_000)
HUGE_FUEL = Bounds(fuel=1 << 60, memory=4 * 1024 * 1024, time_s=0.1, reply=10_000)
SUGGESTION = {"rule": "r", "title": "t", "reason": "because", "operations": [{"op": "remove", "path": "/nodes/a"}]}


@pytest.fixture
async def sandbox() -> AsyncIterator[WasmSandbox]:
    made = WasmSandbox()
    yield made
    await asyncio.to_thread(made.close)


async def stopped(sandbox: WasmSandbox, plugin: bytes, bounds: Bounds = SMALL) -> OptimizerStopped:
    with pytest.raises(OptimizerStopped) as caught:
        await sandbox.run(plugin, TASK, bounds)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_an_answer_is_read_with_what_it_cost(sandbox: WasmSandbox) -> None:
    plugin = replying(msgspec.json.encode({"suggestions": [SUGGESTION | {"gain": {"ms": 4}, "evidence": {"runs": 3}}]}))
    await sandbox.check(plugin)
    answer = await sandbox.run(plugin, TASK, SMALL)
    (suggestion,) = answer.suggestions
    assert (suggestion.rule, suggestion.gain.ms, suggestion.evidence) == ("r", 4.0, {"runs": 3})
    assert 0 < answer.fuel < 100
    assert answer.memory == 2 * 65536
    assert answer.ms > 0


async def test_a_plug_in_is_told_the_task_as_json(sandbox: WasmSandbox) -> None:
    """The echo answers its task, which is no answer; that it is JSON with these fields shows in what is missing."""
    error = await stopped(sandbox, ECHO)
    assert (error.why, str(error)) == (
        "reply", "the reply does not have the form of an answer: Object missing required field `suggestions`"
    )


async def test_the_same_task_costs_the_same_fuel(sandbox: WasmSandbox) -> None:
    plugin = replying(b'{"suggestions": []}')
    costs = {(await sandbox.run(plugin, TASK, SMALL)).fuel for _ in range(5)}
    other = WasmSandbox()
    costs.add((await other.run(plugin, TASK, SMALL)).fuel)
    other.close()
    assert len(costs) == 1


async def test_each_call_begins_with_memory_of_its_own(sandbox: WasmSandbox) -> None:
    """This one counts its calls in its memory, and fails when it sees one before."""
    plugin = running(
        "(if (i32.load (i32.const 0)) (then (unreachable))) (i32.store (i32.const 0) (i32.const 1))"
        f"(i64.const {(1024 << 32) | 18})",
        more='(data (i32.const 1024) "{\\22suggestions\\22:[]}")',
    )
    for _ in range(3):
        assert (await sandbox.run(plugin, TASK, SMALL)).suggestions == ()


@pytest.mark.parametrize(
    ("plugin", "why", "says"),
    [
        (running(LOOP + "(unreachable)"), "fuel", "in `run`: it used up its fuel of 10,000,000 instructions"),
        (module(abi=f'(func (export "abi") (result i32) {LOOP} (unreachable))'), "fuel", "in `abi`"),
        (module(alloc=f'(func (export "alloc") (param i32) (result i32) {LOOP} (unreachable))'), "fuel", "in `alloc`"),
        (module(more=f"(func $begin {LOOP}) (start $begin)"), "fuel", "as it started: it used up its fuel"),
        (running(GROW + "(unreachable)"), "memory", "it wanted more memory than its 4,194,304 bytes"),
        (running(GROW_OR_DIE), "memory", "it wanted more memory than its 4,194,304 bytes, and then it gave up"),
        (module(memory='(memory (export "memory") 1000)'), "memory", "it asks for more memory than its 4,194,304 bytes"),
        (module(more=f"(func $begin {GROW}) (start $begin)"), "fuel", "as it started"),
        (module(more=f"(func $begin {GROW_OR_DIE}) (start $begin)"), "trap", "as it started: it gave up"),
        (module(more="(table 10000000 funcref)"), "module", "table"),
        (running("(call $run (local.get $at) (local.get $size))"), "trap", "nest deeper than the stack allows"),
        (running("(unreachable)"), "trap", "it gave up (unreachable code was reached)"),
        (running("(i64.extend_i32_u (i32.div_u (i32.const 1) (i32.const 0)))"), "trap", "it divided by zero"),
        (running("(i64.extend_i32_u (i32.load (i32.const -8)))"), "trap", "it used memory it does not have"),
        (module(alloc='(func (export "alloc") (param i32) (result i32) (i32.const -1))'), "reply",
         "`alloc` returned address 4,294,967,295"),
        (running(f"(i64.const {(0xFFFFFF00 << 32 | 100) - (1 << 64)})"), "reply", "`run` returned address 4,294,967,040"),
        (running(f"(i64.const {(131000 << 32) | 100})"), "reply", "outside its memory of 131,072 bytes"),
        (running("(i64.const 10001)"), "reply", "the reply is said to have 10,001 bytes; 10,000 are allowed"),
        (running("(i64.const -1)"), "reply", "the reply is said to have 4,294,967,295 bytes"),
        (replying(b'{"suggestions": ["\xff"]}'), "reply", "not UTF-8: byte 18 fits nothing"),
        (replying(b"certainly!"), "reply", "the reply is not JSON"),
        (replying(b""), "reply", "the reply is not JSON"),
        (replying(b"[" * 9000), "reply", "the reply"),
        (replying(b'{"suggestions": ' + b"[" * 900 + b"]" * 900 + b"}"), "reply", "nested 901 levels deep; 100 are allowed"),
        (replying(b"[]"), "reply", "Expected `object`, got `array`"),
        (replying(b'{"suggestions": 3}'), "reply", "at `$.suggestions`"),
        (replying(msgspec.json.encode({"suggestions": [SUGGESTION, SUGGESTION | {"operations": "all"}]})), "reply",
         "Expected `array`, got `str` - at `$.suggestions[1].operations`"),
        (replying(msgspec.json.encode({"suggestions": [SUGGESTION | {"gain": {"ms": "much"}}]})), "reply",
         "at `$.suggestions[0].gain.ms`"),
        (module(more='(import "env" "abort" (func))'), "module", "imports 'env.abort'; an optimizer gets nothing but its task"),
        (module(more='(import "wasi_snapshot_preview1" "fd_write" (func)) (import "env" "memory" (memory 1))', memory=""),
         "module", "imports 'wasi_snapshot_preview1.fd_write', 'env.memory'"),
        (module(abi=ABI.replace("const 1", "const 7")), "module", "speaks version 7 of the ABI of optimizers; this Tenuto speaks version 1"),
        (module(run="", alloc=""), "module",
         "does not export the function `alloc(i32) -> i32`; does not export the function `run(i32, i32) -> i64`"),
        (module(memory="(memory 2)"), "module", "does not export its memory as `memory`"),
        (module(run='(func (export "run") (param i32) (result i32) (i32.const 0))'), "module",
         "exports `run(i32) -> i32`; it must be `run(i32, i32) -> i64`"),
        (module(abi='(global (export "abi") i32 (i32.const 1))'), "module", "exports `abi`, which is not a function"),
        (module(more="".join(f'(export "e{n}" (memory 0))' for n in range(1001))), "module", "1,005 exports; 1,000 are allowed"),
        (b"", "module", "does not begin with"),
        (b"#!/bin/sh\nrm -rf /", "module", "does not begin with"),
        (replying(b"{}")[:-9], "module", "cannot be compiled"),
        (b"\0asm\x0d\0\x01\0", "module", "cannot be compiled"),
        (b"\0asm" + bytes(MODULE_BYTES), "module", "2,097,156 bytes; a plug-in may have 2,097,152 at most"),
        (module(memory='(memory (export "memory") 1 2 shared)'), "module", "cannot be compiled"),
        (module(memory='(memory (export "memory") i64 1)'), "module", "cannot be compiled"),
        (module(more="(memory 1)"), "module", "cannot be compiled"),
        (module(more="(type $box (struct (field i64))) (func (drop (struct.new_default $box)))"), "module", "cannot be compiled"),
        (module(more="(tag $oops) (func (throw $oops))"), "module", "cannot be compiled"),
    ],
)  # fmt: skip
async def test_a_bad_plug_in_is_stopped_and_named(sandbox: WasmSandbox, plugin: bytes, why: str, says: str) -> None:
    error = await stopped(sandbox, plugin)
    assert (error.why, says in str(error)) == (why, True), str(error)


@pytest.mark.parametrize(
    "plugin",
    [
        running(LOOP + "(unreachable)"),
        module(more=f"(func $begin {LOOP}) (start $begin)"),
        module(alloc=f'(func (export "alloc") (param i32) (result i32) {LOOP} (unreachable))'),
    ],
    ids=["run", "start", "alloc"],
)
async def test_time_ends_what_has_fuel_without_end(sandbox: WasmSandbox, plugin: bytes) -> None:
    began = time.monotonic()
    error = await stopped(sandbox, plugin, HUGE_FUEL)
    assert (error.why, "it took longer than 0.1 s" in str(error)) == ("time", True)
    assert time.monotonic() - began >= 0.1


async def test_the_event_loop_goes_on_beside_plug_ins_that_never_end(sandbox: WasmSandbox) -> None:
    turns = 0
    calls = [asyncio.ensure_future(stopped(sandbox, running(LOOP + "(unreachable)"), HUGE_FUEL)) for _ in range(3)]
    # Turns of the loop are what is counted: nothing wakes a loop that is free.
    while not all(call.done() for call in calls):
        await asyncio.sleep(0.001)
        turns += 1
    assert {call.result().why for call in calls} == {"time"}
    assert turns > 20


async def test_a_good_plug_in_is_not_ended_by_the_time_of_another(sandbox: WasmSandbox) -> None:
    good = replying(b'{"suggestions": []}')
    await sandbox.check(good)
    bad = asyncio.ensure_future(stopped(sandbox, running(LOOP + "(unreachable)"), HUGE_FUEL))
    answers = [await sandbox.run(good, TASK, SMALL) for _ in range(20)]
    assert all(answer.suggestions == () for answer in answers)
    assert (await bad).why == "time"


async def test_check_runs_no_task_and_says_the_same(sandbox: WasmSandbox) -> None:
    await sandbox.check(running("(unreachable)"))
    for plugin in (b"", module(more='(import "env" "now" (func))'), module(abi=ABI.replace("const 1", "const 2"))):
        with pytest.raises(OptimizerStopped) as caught:
            await sandbox.check(plugin)
        assert caught.value.why == "module"


async def test_closing_ends_every_thread() -> None:
    before = set(threading.enumerate())
    made = WasmSandbox()
    await made.check(replying(b"{}"))
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert names == {"tenuto-optimizer-clock", "tenuto-optimizer_0"}
    await asyncio.to_thread(made.close)
    assert not any(thread.name.startswith("tenuto-optimizer") for thread in set(threading.enumerate()) - before)


async def test_wiring_opens_a_sandbox() -> None:
    made = open_sandbox()
    assert (await made.run(replying(b'{"suggestions": []}'), TASK, SMALL)).suggestions == ()
    made.close()


def test_without_the_package_one_sentence_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wasmtime", None)
    for name in [name for name in sys.modules if name.startswith("tenuto.adapters.optimizers.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InvalidSettings, match=r"optimizers need a package more .*; pip install 'tenuto\[optimizers\]'"):
        open_sandbox()
