"""Starting, reading and steering runs through the scripted server."""

from __future__ import annotations

import json

import pytest

RUN = {
    "id": "0197-long-run-id-that-must-stay-whole", "workflow": "triage", "version": "sha256:ab", "status": "completed",
    "output": {"ok": True}, "labels": {"team": "a"}, "created_at": "2026-01-01T00:00:00Z",
    "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:01:05Z", "seq": 9,
    "budget": {"limits": {"tokens": 1000, "cost_usd_micros": 500_000}, "spent": {"tokens": 10}},
    "steps": [{"id": "parse", "node": "parse", "status": "completed", "attempt": 2, "output": 1, "took_ms": 1200}],
}  # fmt: skip
FAILED = {**RUN, "status": "failed", "error": {"code": "step.failed", "type": "ValueError", "message": "no"}}


def test_an_empty_list_says_how_to_start(server, cli):
    """The first use of `run list` leads on."""
    server.on("GET", "/runs", {"items": [], "next_cursor": None})
    told = cli("run", "list")
    assert (told.code, told.out) == (0, "")
    assert "tenuto run start triage" in told.err
    assert "No runs match" in cli("run", "list", "--status", "failed").err


def test_a_list_keeps_ids_whole_and_passes_filters(server, cli):
    """Rows are aligned, ids can be copied, every filter reaches the server."""
    server.on("GET", "/runs", {"items": [RUN, {**FAILED, "error": "broke"}], "next_cursor": "c2"})
    told = cli(
        "run", "list", "--status", "failed", "--status", "completed", "--limit", "5", "--label", "a=b c"
    )
    header, first, second = told.out.splitlines()
    assert header.index("STATUS") == first.index("completed") == second.index("failed")
    assert RUN["id"] in first
    assert "1m05s" in first
    assert "broke" in second
    assert "--cursor c2" in told.err
    assert server.sent[0].query == {"status": ["failed", "completed"], "limit": ["5"], "label": ["a=b c"]}


def test_status_shows_run_steps_and_output(server, cli):
    """One screen holds what a person asks first."""
    server.on("GET", "/runs/r1", RUN)
    out = cli("run", "status", "r1").out
    for part in (
        RUN["id"],
        "completed",
        "triage",
        "10 of 1,000 tokens",
        "$0.0000 of $0.5000",
        "parse",
        "1.2s",
        '{"ok": true}',
    ):
        assert part in out
    assert (
        cli("run", "status", "r1", "--output", "compact").out == json.dumps(RUN, separators=(",", ":")) + "\n"
    )


def test_status_with_wait_answers_with_the_runs_outcome(server, cli):
    """Waiting polls the long request, tells once of a person being needed, and ends with 1 for a failed run."""
    waiting = {**RUN, "status": "waiting"}
    server.on("GET", "/runs/r1", waiting, waiting, FAILED)
    told = cli("run", "status", "r1", "--wait")
    assert told.code == 1
    assert told.err.count("tenuto run why") == 1
    assert server.sent[0].query == {"wait": ["25"]}


def test_control_text_of_a_server_is_not_obeyed(server, cli):
    """Escape sequences in names and errors do not reach the terminal."""
    server.on(
        "GET", "/runs/r1", {**FAILED, "workflow": "a\x1b[2Jb", "error": {"message": "x\x07\x1b]0;t\x07"}}
    )
    told = cli("run", "status", "r1")
    assert "\x1b" not in told.out
    assert "\x07" not in told.out


class TestStart:
    """`run start` with a name or a file."""

    @pytest.fixture(autouse=True)
    def accept(self, server):
        """Take every run."""
        server.on("POST", "/runs", {"id": "r1", "status": "queued"})

    def test_by_name_with_every_option(self, server, cli):
        """Options become the fields of the request."""
        told = cli(
            "run", "start", "triage", "--input", '{"a": 1}', "--tag", "v1", "--label", "k=v", "--priority", "high",
            "--budget", "tokens=5", "--budget", "usd=0.5", "--budget", "per_tool.search=2", "--goal", "g",
            "--idempotency-key", "key-1", "--start-at", "2030-01-01T00:00:00+00:00",
        )  # fmt: skip
        assert told.code == 0
        assert "r1" in told.out
        assert server.sent[0].json == {
            "workflow": "triage", "goal": "g", "tag": "v1", "priority": "high", "labels": {"k": "v"}, "input": {"a": 1},
            "budget": {"tokens": 5, "cost_usd_micros": 500_000, "per_tool": {"search": 2}},
            "start_at": "2030-01-01T00:00:00+00:00",
        }  # fmt: skip
        assert server.sent[0].headers["idempotency-key"] == "key-1"

    def test_json_definition_steps_and_request(self, server, cli, tmp_path):
        """What a file holds decides how it is sent."""
        definition = {"name": "n", "nodes": [{"id": "a"}]}
        steps = {"goal": "g", "steps": [{"name": "a"}]}
        (tmp_path / "d.json").write_text(json.dumps(definition))
        (tmp_path / "s.json").write_text(json.dumps(steps))
        (tmp_path / "in.json").write_text("[1]")
        cli("run", "start", "d.json", "--inputs", "in.json")
        cli("run", "start", "s.json", "--goal", "other")
        assert server.sent[0].json == {"definition": definition, "input": [1]}
        assert server.sent[1].json == {**steps, "goal": "other"}

    def test_yaml_definition_goes_as_text(self, server, cli, tmp_path):
        """The CLI reads no YAML: a definition is handed on as it stands."""
        text = "# c\nname: n\nnodes:\n  - id: a\n    steps: 1\n"
        (tmp_path / "d.yaml").write_text(text)
        cli("run", "start", "d.yaml", "--input", "1")
        assert server.sent[0].json == {"definition": text, "input": 1}

    def test_yaml_steps_with_options_stay_one_document(self, server, cli, tmp_path):
        """Options replace the file's entries of their names, so no key appears twice."""
        yaml = pytest.importorskip("yaml")
        (tmp_path / "s.yml").write_text(
            "---\ngoal: >\n  old\n  goal\nsteps:\n- name: a\n- name: b\n  depends_on: [a]\n"
        )
        cli("run", "start", "s.yml")
        cli("run", "start", "s.yml", "--goal", "new", "--label", "x=y")
        steps = [{"name": "a"}, {"name": "b", "depends_on": ["a"]}]
        assert server.sent[0].headers["content-type"] == "application/yaml"
        assert yaml.safe_load(server.sent[0].body) == {"goal": "old goal\n", "steps": steps}
        assert yaml.safe_load(server.sent[1].body) == {"goal": "new", "steps": steps, "labels": {"x": "y"}}
        assert server.sent[1].body.count(b"goal:") == 1

    @pytest.mark.parametrize(
        ("argv", "told"),
        [
            (["nowhere.yaml"], "There is no file"),
            (["triage", "--input", "{a: 1}"], "not valid JSON"),
            (["triage", "--input", "@gone.json"], "Cannot read gone.json"),
            (["triage", "--label", "x"], "KEY=VALUE"),
            (["triage", "--budget", "euro=1"], "knows no cap 'euro'"),
            (["triage", "--budget", "tokens=-1"], "not a number of 0 or more"),
            (["triage", "--start-at", "soon"], "not a moment"),
        ],
    )
    def test_a_bad_option_is_told_before_anything_is_sent(self, argv, told, server, cli):
        """Local mistakes end with 1 and no request."""
        outcome = cli("run", "start", *argv)
        assert outcome.code == 1
        assert told in outcome.err
        assert server.sent == []

    def test_a_lost_answer_is_asked_for_again_with_the_same_key(self, server, cli, reply):
        """A connection cut after the request does not start a second run."""
        server.on("POST", "/runs", reply(cut=True), {"id": "r1", "status": "queued"})
        assert cli("run", "start", "triage").code == 0
        first, second = server.sent
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        assert first.body == second.body

    def test_follow_keeps_standard_output_json(self, server, cli, event, reply):
        """With `--output json` the final run is the only thing on standard output."""
        server.on("GET", "/runs/r1/stream", reply(events=[event(1, "run.started"), event(9, "run.failed")]))
        server.on("GET", "/runs/r1", FAILED)
        told = cli("run", "start", "triage", "-f", "--output", "json")
        assert told.code == 1
        assert told.json == FAILED
        assert "run.started" in told.err


@pytest.mark.parametrize(
    ("argv", "method", "path", "body"),
    [
        (["run", "cancel", "r1", "--reason", "x"], "POST", "/runs/r1/cancel", {"reason": "x"}),
        (["run", "pause", "r1"], "POST", "/runs/r1/pause", {}),
        (["run", "resume", "r1", "--budget", "tokens=9"], "POST", "/runs/r1/resume", {"budget": {"tokens": 9}}),
        (
            ["run", "retry", "r1", "a~b.2", "--fresh", "--with", "m.t=3", "--with", "n=x", "--reason", "y"],
            "POST", "/runs/r1/steps/a~b.2/retry",
            {"fresh": True, "config": {"m": {"t": 3}, "n": "x"}, "reason": "y"},
        ),
        (["run", "signal", "r1", "go", "--data", "[1]"], "POST", "/runs/r1/signals/go", [1]),
        (["run", "delete", "r1"], "DELETE", "/runs/r1", None),
        (["deadletter", "redrive", "d1", "--fresh"], "POST", "/dead-letters/d1/redrive", {"fresh": True}),
        (["approve", "t1", "approve", "--reason", "fine"], "POST", "/tickets/t1/decision", {"decision": "approve", "reason": "fine"}),
        (["approve", "t1", "approve", "--as", "ann", "--digest", "sha256:1"], "POST", "/tickets/t1/decision",
         {"decision": "approve", "by": "ann", "digest": "sha256:1"}),
        (["approve", "t1", "--reason", "no", "reject"], "POST", "/tickets/t1/decision", {"decision": "reject", "reason": "no"}),
        (["workflow", "tag", "w", "prod", "sha256:1"], "PUT", "/workflows/w/tags/prod", {"version": "sha256:1"}),
        (["workflow", "retire", "w"], "POST", "/workflows/w/retire", {}),
        (["replay", "r1", "--from", "2"], "POST", "/runs/r1/replay", {"from_step": 2}),
        (["replay", "r1", "--at", "7", "--mode", "freeze"], "POST", "/runs/r1/replay", {"at": 7, "mode": "freeze"}),
        (["replay", "r1", "--from", "a~l.2"], "POST", "/runs/r1/replay", {"from_step": "a~l.2"}),
        (
            ["replay", "r1", "--from", "parse", "--with", "t=0.5", "--with", "b:m.n=x", "--input", "{}"],
            "POST", "/runs/r1/replay",
            {
                "from_node": "parse",
                "edits": {"input": {}, "nodes": {"parse": {"config": {"t": 0.5}}, "b": {"config": {"m": {"n": "x"}}}}},
            },
        ),
    ],
)  # fmt: skip
def test_commands_send_what_the_api_takes(argv, method, path, body, server, cli):
    """Each command makes one request and tells of its answer."""
    server.on(method, path, {"id": "r1", "status": "running"})
    told = cli(*argv)
    assert told.code == 0
    assert told.out
    (sent,) = server.sent
    assert (json.loads(sent.body) if sent.body else None) == body
    assert cli(*argv, "--output", "json").json == {"id": "r1", "status": "running"}


def test_a_second_decision_is_refused(server, cli, reply):
    """What was decided otherwise before is an API error."""
    server.on("POST", "/tickets/t1/decision", reply({"title": "ticket 't1' was decided", "status": 409}, 409))
    assert cli("approve", "t1", "reject").code == 2


def test_approve_without_decision_off_a_terminal_is_bad_usage(server, cli):
    """A script is never asked."""
    assert cli("approve", "t1").code == 1
    assert server.sent == []


def test_approve_alone_shows_the_request_and_asks(server, cli, monkeypatch):
    """On a terminal the ticket is shown, a clear beginning is enough, and a reason is asked for."""
    ticket = {
        "id": "t1",
        "state": "open",
        "message": "Refund 20?",
        "run": "r1",
        "data": {"amount": 20},
        "choices": ["approve", "reject"],
    }
    server.on("GET", "/tickets/t1", ticket)
    server.on("POST", "/tickets/t1/decision", {**ticket, "decision": "reject"})
    typed = iter(["maybe", "r", "too much"])
    monkeypatch.setattr("tenuto.cli.context.Context.is_interactive", lambda _: True)
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    told = cli("approve", "t1")
    assert told.code == 0
    assert "Refund 20?" in told.out
    assert '"amount": 20' in told.out
    assert server.sent[1].json == {"decision": "reject", "reason": "too much"}


def test_why_says_what_since_when_and_who(server, cli):
    """Each wait comes with the command that ends it."""
    waits = [
        {
            "kind": "approval",
            "step": "ok",
            "name": "t1",
            "since": "2026-01-01T00:00:00Z",
            "who": "anyone who may",
        }
    ]
    server.on(
        "GET",
        "/runs/r1/why",
        {"id": "r1", "status": "waiting", "summary": "It waits for a person.", "waits": waits},
    )
    out = cli("run", "why", "r1").out
    for part in ("It waits for a person.", "ok approval t1", "ago", "anyone who may", "tenuto approve t1"):
        assert part in out


def test_diff_shows_both_sides(server, cli):
    """Steps that differ show the field and both values."""
    step = {"step": "parse", "node": "parse", "change": "changed", "fields": {"output": [1, 2]}}
    found = {
        "a": "r1", "b": "r2", "same": False, "status": ["completed", "failed"], "steps": [step], "first": step,
        "n_same_steps": 3, "routing": {"only_a": ["x -> y"], "only_b": []}, "cost": {"tokens": [5, 9]},
    }  # fmt: skip
    server.on("GET", "/runs/r1/diff", found)
    out = cli("run", "diff", "r1", "r2").out
    assert server.sent[0].query == {"with": ["r2"]}
    for part in (
        "parse",
        "output",
        "x -> y",
        "tokens",
        "first difference at step parse",
        "3 steps are the same",
    ):
        assert part in out


def test_validate_lists_problems_and_ends_with_1(server, cli, tmp_path):
    """YAML goes as it is; every problem is shown with its place."""
    (tmp_path / "w.yaml").write_text("name: w\n")
    problem = {"place": "/nodes", "message": "is required", "hint": "add one"}
    server.on("POST", "/workflows/validate", {"valid": False, "problems": [problem]})
    told = cli("workflow", "validate", "w.yaml")
    assert told.code == 1
    assert "/nodes: is required" in told.out
    assert (server.sent[0].body, server.sent[0].headers["content-type"]) == (b"name: w\n", "application/yaml")


def test_prune_goes_on_until_nothing_is_left(server, cli):
    """The server deletes in parts; the total is the result."""
    server.on("POST", "/runs/prune", {"deleted": 1000}, {"deleted": 5}, {"deleted": 0})
    assert cli("prune", "--before", "30d", "--output", "json").json["deleted"] == 1005


def test_an_artifact_is_written_byte_for_byte(server, cli, reply, tmp_path):
    """What is fetched is what is stored."""
    server.on("GET", "/artifacts/sha256:1", reply(b"\x00\xff"))
    assert cli("artifact", "get", "sha256:1", "-o", "v.bin").code == 0
    assert (tmp_path / "v.bin").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize(
    ("argv", "path", "told"),
    [
        (["tickets", "list"], "/tickets", "Nothing waits"),
        (["deadletter", "list"], "/dead-letters", "No dead letters"),
        (["workflow", "list"], "/workflows", "tenuto workflow publish"),
        (["artifact", "list", "r1"], "/runs/r1/artifacts", "no stored values"),
        (["run", "steps", "r1"], "/runs/r1/steps", "No steps"),
        (["usage"], "/usage", "Nothing was used"),
        (["usage", "--calls"], "/usage/calls", "No calls"),
    ],
)
def test_empty_answers_read_well(argv, path, told, server, cli):
    """An empty list says so on standard error and leaves standard output empty."""
    server.on("GET", path, {"items": []})
    outcome = cli(*argv)
    assert (outcome.code, outcome.out) == (0, "")
    assert told in outcome.err


FOUND = [
    {"id": "http.slow", "severity": "note", "place": "/nodes/0", "message": "no limit", "fix": "give one"},
    {"id": "secret.literal", "severity": "error", "place": "/nodes/1", "message": "a key", "fix": "take it out"},
    {"id": "race.shared_write", "severity": "warning", "place": "/nodes/2", "message": "a race", "fix": "an edge"},
]


@pytest.mark.parametrize(
    ("severities", "argv", "code"),
    [
        (["note"], [], 0), (["note"], ["--strict"], 0), (["warning"], [], 0), (["warning"], ["--strict"], 1),
        (["error"], [], 1), (["error", "note"], ["--strict", "--output", "json"], 1),
    ],
)  # fmt: skip
def test_validate_ends_with_1_for_errors_and_when_strict_for_warnings(server, cli, tmp_path, severities, argv, code):
    """The exit code is the same in every form of the output."""
    (tmp_path / "w.yaml").write_text("name: w\n")
    found = [entry for entry in FOUND if entry["severity"] in severities]
    server.on("POST", "/workflows/validate", {"valid": True, "version": "sha256:1", "findings": found})
    assert cli("workflow", "validate", "w.yaml", *argv).code == code


def test_validate_groups_findings_by_severity(server, cli, tmp_path):
    """The worst first, each with its place, id and what to do."""
    (tmp_path / "w.yaml").write_text("name: w\n")
    server.on("POST", "/workflows/validate", {"valid": True, "version": "sha256:1", "findings": FOUND})
    lines = [line.strip() for line in cli("workflow", "validate", "w.yaml").out.splitlines()]
    heads = [lines.index(head) for head in ("1 error", "1 warning", "1 note")]
    assert heads == sorted(heads)
    assert lines[heads[0] + 1 : heads[0] + 4] == ["/nodes/1  secret.literal", "a key", "fix: take it out"]


def test_a_form_is_asked_for_field_by_field(server, cli, monkeypatch):
    """Alone, `approve` asks for what the form wants, says what does not fit, and sends the digest of what it showed."""
    ticket = {
        "id": "t1", "state": "open", "message": "Pay?", "run": "r1", "choices": ["approve", "reject"], "digest": "sha256:1",
        "approvers": ["ann", "group:heads"], "quorum": 2, "reject_quorum": 1, "votes": [{"by": "bob", "decision": "approve"}],
        "form": {"type": "object", "required": ["amount", "fast"], "properties": {
            "amount": {"type": "number"}, "fast": {"type": "boolean", "title": "Express"}, "note": {"type": "string"},
            "tags": {"type": "array"}}},
    }  # fmt: skip
    server.on("GET", "/tickets/t1", ticket)
    server.on("POST", "/tickets/t1/decision", ticket)
    typed = iter(["a", "fine", "much", "12.5", "yes", "", '["x"]'])
    prompts = []
    monkeypatch.setattr("tenuto.cli.context.Context.is_interactive", lambda _: True)
    monkeypatch.setattr("builtins.input", lambda prompt: prompts.append(prompt) or next(typed))
    told = cli("approve", "t1", "--as", "ann")
    assert told.code == 0
    assert "ann, group:heads" in told.out
    assert "bob: approve" in told.out
    assert "counted, 1 of 2 to approve" in told.out
    assert "Express (yes or no): " in prompts
    assert "That is not a number" in told.out + told.err
    assert server.sent[1].json == {
        "decision": "approve", "reason": "fine", "digest": "sha256:1", "by": "ann",
        "data": {"amount": 12.5, "fast": True, "tags": ["x"]},
    }  # fmt: skip
