"""Following a run: every event once, over dropped connections, to its end."""

from __future__ import annotations

import json

import pytest

DONE = {"id": "r1", "workflow": "triage", "status": "completed", "seq": 5, "output": 1}
FAILED = {**DONE, "status": "failed", "error": {"message": "broke"}}


def script(event):
    """A run's events, from start to end."""
    return [
        event(1, "run.started"), event(2, "step.started", "parse"), event(3, "step.completed", "parse", output=1),
        event(4, "step.retrying", "send~map.3", error={"message": "refused"}), event(5, "run.completed", output=1),
    ]  # fmt: skip


def types(text):
    """The type of each line of events."""
    return [line.split()[1] for line in text.splitlines()]


def test_a_stream_ends_with_the_run(server, cli, event, reply):
    """All events are shown in order and the exit code is the run's."""
    server.on("GET", "/runs/r1/stream", reply(events=script(event)))
    server.on("GET", "/runs/r1", DONE)
    told = cli("logs", "stream", "r1")
    assert told.code == 0
    assert types(told.out) == [
        "run.started",
        "step.started",
        "step.completed",
        "step.retrying",
        "run.completed",
    ]


def test_a_failed_run_ends_with_1(server, cli, event, reply):
    """A script can tell from the exit code."""
    server.on("GET", "/runs/r1/stream", reply(events=[event(5, "run.failed", error={"message": "broke"})]))
    server.on("GET", "/runs/r1", FAILED)
    told = cli("logs", "stream", "r1")
    assert told.code == 1
    assert "broke" in told.out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--node", "parse"], ["step.started", "step.completed"]),
        (["--node", "send"], ["step.retrying"]),
        (["--node", "send~map.3"], ["step.retrying"]),
        (["--filter", "errors"], ["step.retrying"]),
        (["--filter", "errors", "--node", "parse"], []),
    ],
)
def test_filters_show_only_what_matches(options, expected, server, cli, event, reply):
    """The stream still ends with the run when its end is filtered away."""
    server.on("GET", "/runs/r1/stream", reply(events=script(event)))
    server.on("GET", "/runs/r1", DONE)
    told = cli("logs", "stream", "r1", *options)
    assert told.code == 0
    assert types(told.out) == expected


def test_a_dropped_connection_is_taken_up_after_the_last_event(server, cli, event, reply):
    """Each event is shown once; the second connection names the last one seen."""
    events = script(event)
    server.on(
        "GET", "/runs/r1/stream",
        reply(events=events[:2], cut=True), reply({"title": "restarting"}, 503), reply(cut=True), reply(events=events[2:]),
    )  # fmt: skip
    server.on("GET", "/runs/r1", DONE)
    told = cli("logs", "stream", "r1", "--after", "0.4")
    assert told.code == 0
    assert len(types(told.out)) == 5
    streams = [sent.headers.get("last-event-id") for sent in server.sent if sent.path.endswith("/stream")]
    assert streams == ["0.4", "2.0", "2.0", "2.0"]


def test_a_reopened_run_is_followed_on(server, cli, event, reply):
    """An old failure in the journal is not taken for the run's end."""
    server.on(
        "GET", "/runs/r1/stream",
        reply(events=[event(2, "run.failed")]), reply(events=[event(3, "run.reopened"), event(5, "run.completed")]),
    )  # fmt: skip
    server.on("GET", "/runs/r1", DONE)
    told = cli("logs", "stream", "r1")
    assert types(told.out) == ["run.failed", "run.reopened", "run.completed"]
    assert told.code == 0


def test_a_stream_with_nothing_more_to_say_ends(server, cli, reply):
    """Following an ended run from behind its last event does not hang."""
    server.on("GET", "/runs/r1/stream", reply(events=[]))
    server.on("GET", "/runs/r1", {**DONE, "seq": 7})
    assert cli("logs", "stream", "r1", "--after", "9.0").code == 0


def test_an_unknown_run_is_refused_at_once(server, cli, reply):
    """Only trouble that may pass is tried again."""
    server.on("GET", "/runs/r1/stream", reply({"title": "unknown run 'r1'"}, 404))
    assert cli("logs", "stream", "r1").code == 2
    assert len(server.sent) == 1


def test_a_stream_that_cannot_go_on_tells_why(server, cli, reply):
    """A problem sent inside the stream is shown like any refusal."""
    problem = {"id": "", "type": "problem", "title": "the journal of run 'r1' is corrupt", "status": 500}
    server.on("GET", "/runs/r1/stream", reply(events=[problem]))
    told = cli("logs", "stream", "r1")
    assert told.code == 2
    assert "is corrupt" in told.err


def test_a_server_that_stays_away_is_given_up(server, cli, event, reply):
    """The end of patience is an API error, with what was told before kept."""
    server.on("GET", "/runs/r1/stream", reply(events=script(event)[:1], cut=True), reply(cut=True))
    told = cli("logs", "stream", "r1")
    assert told.code == 2
    assert types(told.out) == ["run.started"]
    assert "trying again" in told.err


def test_json_is_one_array_and_compact_one_object_a_line(server, cli, event, reply):
    """Programs get valid JSON in either form."""
    server.on("GET", "/runs/r1/stream", reply(events=script(event)))
    server.on("GET", "/runs/r1", DONE)
    assert cli("logs", "stream", "r1", "--output", "json").json == script(event)
    lines = cli("logs", "stream", "r1", "--output", "compact").out.splitlines()
    assert [json.loads(line) for line in lines] == script(event)
    assert cli("logs", "stream", "r1", "--node", "none", "--output", "json").json == []


def test_an_interrupt_leaves_the_run_alone_and_the_json_valid(server, cli, event, reply, monkeypatch):
    """Ctrl-C while following ends with 130 and says that the run goes on."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    server.on("GET", "/runs/r1/stream", reply(events=script(event)))
    monkeypatch.setattr("tenuto.cli.follow.current", interrupt)
    told = cli("logs", "stream", "r1", "--output", "json")
    assert told.code == 130
    assert told.json == script(event)
    assert "the run goes on" in told.err


def test_an_open_ticket_shows_how_to_decide_it(server, cli, event, reply):
    """The line of an approval holds the command."""
    opened = event(2, "ticket.opened", "ok", ticket="t1", message="Refund?")
    server.on("GET", "/runs/r1/stream", reply(events=[opened, event(5, "run.completed")]))
    server.on("GET", "/runs/r1", DONE)
    assert "tenuto approve t1" in cli("logs", "stream", "r1").out


def test_watch_draws_the_steps_as_they_change(server, cli, event, reply, monkeypatch):
    """On a terminal the table follows the events from the record the run was read at."""
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("tenuto.cli.out._is_terminal", lambda _: True)
    begun = {
        **DONE,
        "status": "running",
        "seq": 1,
        "finished_at": None,
        "steps": [{"id": "parse", "status": "running"}],
    }
    server.on("GET", "/runs/r1", begun, DONE)
    server.on("GET", "/runs/r1/stream", reply(events=script(event)[2:]))
    told = cli("watch", "r1")
    assert told.code == 0
    assert next(s for s in server.sent if s.path.endswith("stream")).headers["last-event-id"] == "1"
    frames = told.out.split("\x1b[J")
    assert "parse" in frames[0]
    assert "retrying" in frames[2]
    assert "output" in frames[-1]


def test_pieces_of_an_answer_are_lines_and_so_is_that_they_do_not_count(server, cli, event, reply):
    """What a model says is shown as it comes; pieces have no id, so a stream that breaks goes on where it was."""
    piece = {**event(2, "call.delta", "ask", call="r1/model", text="Forty\x1b[2J-two", provisional=True), "id": ""}
    gone = {**event(3, "call.withdrawn", "ask", call="r1/model", provisional=True), "id": ""}
    server.on("GET", "/runs/r1/stream", reply(events=[event(1, "run.started"), piece, gone, event(5, "run.completed")]))
    server.on("GET", "/runs/r1", DONE)
    told = cli("logs", "stream", "r1")
    assert types(told.out) == ["run.started", "call.delta", "call.withdrawn", "run.completed"]
    assert "ask" in told.out.splitlines()[1]
    assert "-two" in told.out.splitlines()[1]
    assert "\x1b" not in told.out
    assert "r1/model: what was said so far does not count" in told.out
