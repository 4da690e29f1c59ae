"""Plug-ins as WebAssembly text, most of them ill-meant."""

from __future__ import annotations

from wasmtime import wat2wasm

ABI = '(func (export "abi") (result i32) (i32.const 1))'
MEMORY = '(memory (export "memory") 2)'
ALLOC = '(func (export "alloc") (param i32) (result i32) (i32.const 65536))'
RUN = '(func (export "run") (param i32 i32) (result i64) (i64.const 0))'


def module(*, memory: str = MEMORY, abi: str = ABI, alloc: str = ALLOC, run: str = RUN, more: str = "") -> bytes:
    """Return a module that is right but for what is given."""
    return bytes(wat2wasm(f"(module {more} {memory} {abi} {alloc} {run})"))


def running(body: str, **parts: str) -> bytes:
    """Return a module whose `run` has a body."""
    return module(run=f'(func $run (export "run") (param $at i32) (param $size i32) (result i64) {body})', **parts)


def replying(reply: bytes) -> bytes:
    """Return a module that replies the same bytes whatever it is told."""
    data = "".join(f"\\{byte:02x}" for byte in reply)
    packed = (1024 << 32) | len(reply)
    return running(f"(i64.const {packed})", more=f'(data (i32.const 1024) "{data}")')


ECHO = running(
    "(i64.or (i64.shl (i64.extend_i32_u (local.get $at)) (i64.const 32)) (i64.extend_i32_u (local.get $size)))"
)
LOOP = "(loop $again (br $again))"
GROW = "(loop $again (drop (memory.grow (i32.const 16))) (br $again))"
GROW_OR_DIE = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) (unreachable)"
