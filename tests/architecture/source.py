"""The package as text and syntax, for tests that look at code instead of running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tenuto

ROOT = Path(tenuto.__file__).parent


def modules(below: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the file of every module below a package."""
    for path in sorted((ROOT / below.replace(".", "/")).rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the modules a file imports, wherever it does so, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the qualified name and the number of lines of every function in a file."""
    yield from _functions(ast.parse(path.read_text(encoding="utf-8")), "")


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{prefix}.{child.name}".lstrip(".")
            if not isinstance(child, ast.ClassDef) and child.end_lineno is not None:
                yield name, child.end_lineno - child.lineno + 1
            yield from _functions(child, name)
