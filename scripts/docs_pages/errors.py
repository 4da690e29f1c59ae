"""The error catalogue: every class a caller can see, and every code that is given to a problem or a failure."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import tenuto
from scripts.docs_pages.markdown import code, opening, table
from tenuto.api.errors import status_of
from tenuto.errors import TenutoError

LEFT_OUT = ("tenuto.testing", "tenuto.bundled.examples", "tenuto.bundled.demo", "tenuto.bundled.chaos")
SOURCE = Path(tenuto.__file__).parent


def classes() -> list[type[TenutoError]]:
    """Return every error class of the package, those of examples and the test kit left out, by code."""
    for module in pkgutil.walk_packages([str(SOURCE)], "tenuto."):
        if not module.name.startswith(LEFT_OUT) and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return sorted(set(_below(TenutoError)), key=lambda cls: (cls.code, cls.__module__))


def _below(cls: type[TenutoError]) -> Iterator[type[TenutoError]]:
    if not cls.__module__.startswith(LEFT_OUT) and cls.__module__.startswith("tenuto."):
        yield cls
    for child in cls.__subclasses__():
        yield from _below(child)


def given_codes() -> dict[str, tuple[str, str]]:
    """Return the codes that are given where something is refused: code -> (where, what is said there)."""
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        if name.startswith(LEFT_OUT):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                given = next((word.value for word in node.keywords if word.arg == "code"), None)
                if isinstance(given, ast.Constant) and isinstance(given.value, str) and "." in given.value:
                    found.setdefault(given.value, (name.removesuffix(".__init__"), _said(node)))
    return found


def _said(call: ast.Call) -> str:
    named = {word.arg: word.value for word in call.keywords}
    node = named.get("message") or (
        call.args[1] if len(call.args) > 1 else call.args[0] if call.args else None
    )
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
    return ""


def page() -> str:
    """Return the page."""
    text = opening(
        "Errors", "the error classes and codes of the package",
        "Match on the code; messages are for people and may change.",
        "HTTP answers are problem details (RFC 9457) with `code`, `title`, `errors[]` (place, message, hint, code) and `retryable`.",
        "The command line exits with 1 when a run or a command failed, 2 when the API refused or did not answer, 130 when interrupted.",
    )  # fmt: skip
    all_classes = classes()
    rows = [
        (code(cls.code), code(cls.__name__), _meaning(cls), _status(cls), "yes" if cls.retryable else "")
        for cls in all_classes
    ]
    text += "\n## Classes\n\nAll derive from `tenuto.TenutoError`.\n\n"
    text += table(["code", "class", "means", "HTTP", "retryable"], rows)
    known = {cls.code for cls in all_classes}
    given = sorted((found, *rest) for found, rest in given_codes().items() if found not in known)
    text += (
        "\n## Codes of problems and failures\n\n"
        "Codes that stand in `errors[]`, in a step's `error`, or in place of the class's own code where more can be said.\n"
        "`…` stands for a value.\n\n"
    )
    return text + table(["code", "says", "from"], [(code(a), said, code(where)) for a, where, said in given])


def _meaning(cls: type[TenutoError]) -> str:
    return (cls.__doc__ or "").strip().split("\n")[0]


def _status(cls: type[TenutoError]) -> str:
    if cls is TenutoError or cls.__name__ == "Refused":
        return "by case"
    return str(status_of(cls.__new__(cls)))
