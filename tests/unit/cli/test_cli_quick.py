"""The quick ways of a start give what the thorough ones give."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenuto.cli.arguments import read_fully
from tenuto.cli.errors import CliError
from tenuto.cli.parse import Parser, load, read_plainly
from tenuto.cli.table import COMMANDS
from tenuto.cli.values import loads

WORDS = [
    "a", "b", "-", "3", "-3", "x=y", "", "--", "-f", "-o", "-h", "--follow", "--limit", "--limit=4", "--limit=x",
    "--status", "failed", "--status=failed", "--output", "json", "--output=no", "--label", "k=v", "--from", "--at",
    "--api-url", "--plan", "--fresh", "--before", "--reason=", "--unknown",
]  # fmt: skip


def declared(words: str):
    """The declarations of a command."""
    declare, _ = load(words)
    parser = Parser(words)
    declare(parser)
    parser.everywhere()
    return parser._declared


@given(words=st.sampled_from(sorted(COMMANDS)), argv=st.lists(st.sampled_from(WORDS), max_size=5))
def test_plain_arguments_mean_the_same_to_argparse(words, argv):
    """Whatever the quick way takes, argparse takes, with the same values."""
    options = declared(words)
    quick = read_plainly(options, argv)
    if quick is None:
        return
    try:
        assert quick == read_fully(words, "", options, argv)
    except CliError as error:
        pytest.fail(f"argparse refuses: {error}")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON, st.sampled_from(["", " ", "\r\n\t"]))
def test_json_reads_as_with_the_standard_library(value, space):
    """The quick reader agrees on every document."""
    raw = f"{space}{json.dumps(value)}{space}".encode()
    assert loads(raw) == json.loads(raw)


@pytest.mark.parametrize(
    "raw", [b"", b" ", b"{", b"[1,]", b"1 2", b"<html>", b'{"a" 1}', b'"\n"', b"\xff", b"nul"]
)
def test_what_is_not_json_is_refused(raw):
    """Anything else is a `ValueError`, as with the standard library."""
    with pytest.raises(ValueError, match=r"."):
        loads(raw)
