"""`tenuto usage`: what was spent, as a table a person can add up."""

from __future__ import annotations

from typing import Any

import pytest

TOTALS: dict[str, Any] = {
    "runs": 3, "calls": 1204, "failed": 2, "unknown": 1, "tokens": 90_000, "input_tokens": 80_000, "cached_tokens": 1000,
    "output_tokens": 10_000, "reasoning_tokens": 0, "cost_usd_micros": 12_345_678, "cost_usd": "12.345678",
    "unknown_cost_usd": "0.250000",
}  # fmt: skip
SMALL = {"key": "small", "calls": 4, "tokens": 50, "cost_usd_micros": 1, "cost_usd": "0.000001"}


def test_a_table_ends_with_the_total(server, cli):
    """Costs are exact and right-aligned, what no group has is left out, and calls without a key are named so."""
    groups = [{**TOTALS, "key": "big"}, SMALL, {**SMALL, "key": ""}]
    server.on("GET", "/usage", {"group_by": "model", "totals": TOTALS, "groups": groups, "complete": True, "lag": 0})
    told = cli("usage", "--since", "2030-01-31", "--project", "atlas")
    assert (told.code, told.err) == (0, "")
    assert server.sent[0].query == {"from": ["2030-01-31"], "project": ["atlas"], "group_by": ["model"]}
    assert told.out.splitlines() == [
        "MODEL   CALLS  FAILED   INPUT  CACHED  OUTPUT  TOKENS        COST  UNKNOWN",
        "big     1,204       2  80,000   1,000  10,000  90,000  $12.345678  1 calls, up to $0.250000",
        "small       4                                      50   $0.000001",
        "(none)      4                                      50   $0.000001",
        "total   1,204       2  80,000   1,000  10,000  90,000  $12.345678  1 calls, up to $0.250000",
    ]


def test_what_is_not_counted_yet_is_said(server, cli):
    """A lagging projection or a cut list never reads as the whole truth."""
    server.on("GET", "/usage", {"totals": TOTALS, "groups": [SMALL], "complete": False, "lag": 1500})
    told = cli("usage", "--by", "run", "--limit", "1")
    assert server.sent[0].query == {"group_by": ["run"], "limit": ["1"]}
    assert "1,500 groups of records are not counted yet" in told.err
    assert "--limit" in told.err


@pytest.mark.parametrize("form", ["json", "compact"])
def test_programs_get_the_answer_as_it_is(server, cli, form):
    """No figure is reworded for a program."""
    answer = {"group_by": "day", "totals": TOTALS, "groups": [], "complete": True, "lag": 0}
    server.on("GET", "/usage", answer)
    assert cli("usage", "--by", "day", "--since", "7d", "--output", form).json == answer
    assert server.sent[0].query["from"][0].endswith("+00:00")


def test_single_calls_are_listed(server, cli):
    """Each with what was called, why and for how much; the next part is a command away."""
    call = {
        "run": "r1", "step": "write", "at": None, "kind": "model", "state": "settled", "provider": "lab", "model": "m",
        "purpose": "execution", "tokens": 15, "cost_usd": "0.000007",
    }  # fmt: skip
    server.on("GET", "/usage/calls", {"items": [call], "next_cursor": "c1"})
    told = cli("usage", "--calls", "--model", "m")
    assert server.sent[0].query == {"model": ["m"], "limit": ["50"]}
    assert told.out.splitlines()[1].split() == ["-", "r1", "write", "lab:m", "execution", "settled", "15", "$0.000007"]
    assert "--cursor c1" in told.err


def test_a_moment_that_is_none_is_refused_before_the_request(server, cli):
    """The way out is named."""
    told = cli("usage", "--since", "yesterday")
    assert (told.code, server.sent) == (1, [])
    assert "--since" in told.err
