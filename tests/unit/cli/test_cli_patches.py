"""Patches on the command line, through the scripted server."""

from __future__ import annotations

import json

from tenuto.cli.out import Out
from tenuto.cli.patch_show import patch_lines

PATCH = {
    "id": "pt-1", "run": "r1", "status": "open", "author": "agent", "by": "step think", "step": "think", "reason": "why\x1b[2J",
    "base_digest": "sha256:a", "digest": "sha256:b", "asks": "patches by an agent are approved by a person", "ticket": "t1",
    "changed": {"nodes_added": ["extra"], "nodes_removed": ["old"], "nodes_changed": ["last"], "edges_added": ["a->extra"],
                "edges_removed": [], "edges_changed": []},
    "findings": [{"place": "/nodes/x", "message": "is wrong", "hint": "mend it", "code": "c"}],
    "difference": {
        "nodes_added": ["extra"], "nodes_removed": ["old"],
        "nodes_changed": {"last": [{"field": "config", "before": {"a": 1, "b": 2}, "after": {"a": 1, "b": 3}},
                                   {"field": "description", "before": None, "after": "new"}]},
        "edges_added": [{"from": "a", "to": "extra", "on": "error", "when": "output.n > 1", "max_iterations": None}],
        "edges_removed": [], "edges_changed": [{"from": "b", "to": "a", "on": "success", "when": "", "max_iterations": 3}],
        "nodes": {"extra": {"id": "extra", "kind": "agent", "config": {"prompt": "x"}}},
    },
}  # fmt: skip
TICKET = {
    "id": "t1", "kind": "patch", "state": "open", "message": "Apply patch pt-1?", "run": "r1", "data": {"patch": "pt-1"},
    "choices": ["approve", "reject"],
}  # fmt: skip


def test_the_difference_is_read_by_its_signs_and_colours(monkeypatch):
    """Added is green, removed red, changed yellow; of an object only the keys that differ are shown."""
    monkeypatch.setattr("tenuto.cli.out._is_terminal", lambda _: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    lines = list(patch_lines(Out(), PATCH))
    for line in (
        "\x1b[32m+ node extra (agent)\x1b[0m", "\x1b[31m- node old\x1b[0m", "\x1b[33m~ node last\x1b[0m",
        "\x1b[31m-     config.b: 2\x1b[0m", "\x1b[32m+     config.b: 3\x1b[0m", "\x1b[32m+     description: new\x1b[0m",
        "\x1b[32m+ edge a -> extra on error if output.n > 1\x1b[0m", "\x1b[33m~ edge b -> a (at most 3 passes)\x1b[0m",
        "  - /nodes/x: is wrong",
    ):  # fmt: skip
        assert line in lines, lines
    assert not any("config.a" in line or "\x1b[2J" in line for line in lines)


def test_a_ticket_about_a_patch_shows_the_difference_and_asks(server, cli, monkeypatch):
    """`tenuto approve TICKET` alone shows what the patch changes before it asks."""
    server.on("GET", "/tickets/t1", TICKET)
    server.on("GET", "/runs/r1/patches/pt-1", PATCH)
    server.on("POST", "/tickets/t1/decision", {**TICKET, "decision": "approve"})
    typed = iter(["a", ""])
    monkeypatch.setattr("tenuto.cli.context.Context.is_interactive", lambda _: True)
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    shown = cli("approve", "t1")
    assert shown.code == 0
    assert shown.out.index("+ node extra (agent)") < shown.out.index("ticket t1: approve")
    assert server.sent[-1].json == {"decision": "approve"}


def test_a_proposal_is_made_for_the_newest_graph_unless_told_otherwise(server, cli, tmp_path):
    """The digest is looked up when it was not given; options win over the file; YAML goes as it is."""
    server.on("GET", "/runs/r1/patches/graph", {"digest": "sha256:now"})
    server.on("POST", "/runs/r1/patches", {**PATCH, "status": "applied", "number": "1.1"})
    file = tmp_path / "p.json"
    file.write_text('[{"op": "remove", "path": "/nodes/x"}]')
    first = cli("patch", "propose", "r1", str(file))
    assert "+extra" in first.out
    assert "1.1" in first.err
    assert server.sent[-1].json == {"operations": [{"op": "remove", "path": "/nodes/x"}], "base_digest": "sha256:now"}
    file.write_text(json.dumps({"operations": [], "base_digest": "sha256:file", "evidence": {"n": 1}}))
    cli("patch", "propose", "r1", str(file), "--base", "sha256:told", "--reason", "y", "--idempotency-key", "k")
    assert server.sent[-1].json == {"operations": [], "base_digest": "sha256:told", "evidence": {"n": 1}, "reason": "y"}
    assert server.sent[-1].headers["idempotency-key"] == "k"
    yaml = tmp_path / "p.yaml"
    yaml.write_text("- {op: remove, path: /nodes/x}\n")
    cli("patch", "propose", "r1", str(yaml))
    assert server.sent[-1].headers["content-type"] == "application/yaml"
    assert server.sent[-1].body.startswith(b"operations:\n  - {op: remove")


def test_approving_what_the_run_has_overtaken_fails(server, cli):
    """A script sees by the exit code that an approved patch was not applied."""
    server.on("POST", "/runs/r1/patches/pt-1/decision", {**PATCH, "status": "rejected"})
    assert cli("patch", "approve", "r1", "pt-1").code == 1
    assert cli("patch", "reject", "r1", "pt-1", "--reason", "x").code == 0
    assert server.sent[-1].json == {"decision": "reject", "reason": "x"}


def test_events_of_patches_read_in_one_line(server, cli, event):
    """`run events` says what a patch adds, removes and changes."""
    events = [event(2, "patch.applied", patch="pt-1", changed=PATCH["changed"]),
              event(3, "patch.proposed", patch="pt-2", changed={}, findings=PATCH["findings"], reason="r")]  # fmt: skip
    server.on("GET", "/runs/r1/events", {"items": events, "next_cursor": None})
    out = cli("run", "events", "r1").out
    assert "pt-1  +extra -old ~last +a->extra" in out
    assert "pt-2  is wrong  r" in out
