"""What a module must offer to be an optimizer, looked at before one instruction of it runs."""

from __future__ import annotations

import wasmtime

MAX_EXPORTS = 1000

ABI_EXPORTS = {
    "memory": "",
    "abi": "() -> i32",
    "alloc": "(i32) -> i32",
    "run": "(i32, i32) -> i64",
}
"""Signature of each export; the memory has none."""


def fault_of(module: wasmtime.Module) -> str:
    """Return in a sentence why a module cannot be an optimizer; empty when it can."""
    if wanted := [f"{item.module}.{item.name}"[:80] for item in module.imports]:
        shown = ", ".join(repr(name) for name in wanted[:5]) + (f" and {len(wanted) - 5} more" if len(wanted) > 5 else "")
        return f"the module imports {shown}; an optimizer gets nothing but its task and may import nothing"
    exports = module.exports
    if len(exports) > MAX_EXPORTS:
        return f"the module has {len(exports):,} exports; {MAX_EXPORTS:,} are allowed"
    found = {item.name: item.type for item in exports}
    faults = [fault for name, wanted in ABI_EXPORTS.items() if (fault := _fault(name, wanted, found.get(name)))]
    return f"the module {'; '.join(faults)}" if faults else ""


def _fault(name: str, wanted: str, kind: object) -> str:
    needed = f"the function `{name}{wanted}`" if wanted else f"its memory as `{name}`"
    if kind is None:
        return f"does not export {needed}"
    if not wanted:
        return "" if isinstance(kind, wasmtime.MemoryType) else f"exports `{name}`, which is not a memory"
    if not isinstance(kind, wasmtime.FuncType):
        return f"exports `{name}`, which is not a function"
    result = ", ".join(str(item) for item in kind.results) or "nothing"
    signature = f"({', '.join(str(item) for item in kind.params)}) -> {result}"
    return "" if signature == wanted else f"exports `{name}{signature}`; it must be `{name}{wanted}`"
