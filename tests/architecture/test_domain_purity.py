"""The core imports nothing that could read a clock, draw a number or reach the world."""

from __future__ import annotations

import sys

import pytest

from tests.architecture.source import imports, modules

# A list of what is allowed: a list of what is forbidden forgets.
STANDARD = {
    "__future__", "base64", "bisect", "collections", "collections.abc", "contextlib", "copy", "dataclasses", "datetime",
    "difflib", "enum", "functools", "hashlib", "heapq", "itertools", "json", "math", "operator", "re", "string",
    "textwrap", "types", "typing", "urllib.parse",
}  # fmt: skip
THIRD_PARTY = {"msgspec", "cel_expr_python", "jsonpatch", "jsonpointer"}
# `re2` comes with the CEL library: patterns of declared schemas are matched in linear time.
OWN = ("tenuto.domain", "tenuto.errors")


@pytest.mark.parametrize(
    ("name", "path"), [*modules("domain")], ids=lambda value: str(value).rpartition("/")[2]
)
def test_a_domain_module_imports_only_what_is_allowed(name, path):
    for imported, line in imports(path):
        where = f"{name}:{line} imports {imported}"
        if imported.startswith("tenuto"):
            assert imported.startswith(OWN), where
        elif imported.partition(".")[0] in sys.stdlib_module_names:
            assert imported in STANDARD, where
        else:
            assert imported.partition(".")[0] in THIRD_PARTY, where


def test_errors_import_nothing_of_the_package():
    _, path = next(pair for pair in modules() if pair[0] == "tenuto.errors")
    assert not [name for name, _ in imports(path) if name.startswith("tenuto")]
