"""People in the loop: a run asks, nobody holds it, a decision moves it, and there is one decision only."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.acceptance.features.programs import (
    Place,
    Program,
    audit,
    cli,
    ended,
    events,
    reaches,
    start,
    ticket_of,
    told,
    until,
)

Served = tuple[Program, httpx.Client]


def test_HIT01_an_approval_pauses_the_run_and_holds_no_worker(served: Served) -> None:
    server, client = served
    run = start(client, "asks")
    ticket = ticket_of(client, run)
    view = reaches(client, run, "waiting")
    assert (ticket["kind"], ticket["state"], ticket["step"], ticket["message"]) == ("approval", "open", "ask", "May it?")
    step = next(step for step in view["steps"] if step["id"] == "ask")
    assert step["status"] == "waiting"
    assert step["waiting_for"]["kind"] == "approval"
    why = until("nobody owns it", lambda: (w := client.get(f"/runs/{run}/why").json()) and not w.get("owner") and w)
    assert why["waits"][0]["name"] == ticket["id"]
    assert [t["id"] for t in told(server, "tickets", "list", "--run", run)["items"]] == [ticket["id"]]
    assert client.get("/approvals", params={"run": run}).json()["items"][0]["id"] == ticket["id"]


@pytest.mark.parametrize(("decision", "taken", "left"), [("approve", "yes", "no"), ("reject", "no", "yes")])
def test_HIT02_a_decision_resumes_on_its_path(served: Served, decision: str, taken: str, left: str) -> None:
    _, client = served
    run = start(client, "asks")
    ticket = ticket_of(client, run)
    answer = client.post(f"/tickets/{ticket['id']}/decision", json={"decision": decision, "reason": "so it is"})
    assert answer.status_code == 200, answer.text
    view = ended(client, run)
    assert view["status"] == "completed"
    found = {step["id"]: step for step in view["steps"]}
    assert (found[taken]["status"], found[left]["status"]) == ("completed", "skipped")
    output = found["ask"]["output"]
    assert output["approved"] is (decision == "approve")
    assert output["reason"] == "so it is"
    assert output["by"]
    kept = client.get(f"/tickets/{ticket['id']}").json()
    assert (kept["state"], kept["reason"], kept["by"]) == ("decided", "so it is", "token")
    decided = [entry for entry in audit(client, run)["entries"] if "so it is" in str(entry["data"])]
    assert decided, "the journal has the decision with its reason"


def test_HIT03_approve_from_the_command_line_once(served: Served) -> None:
    server, client = served
    run = start(client, "asks")
    ticket = ticket_of(client, run)["id"]
    done = cli(server, "approve", ticket, "approve", "--reason", "looks right")
    assert done.returncode == 0, done.stderr
    assert ended(client, run)["status"] == "completed"
    again = cli(server, "approve", ticket, "reject", "--reason", "changed my mind")
    assert again.returncode == 2
    assert "decided" in again.stderr
    assert client.post(f"/tickets/{ticket}/decision", json={"decision": "reject"}).status_code == 409
    same = client.post(f"/tickets/{ticket}/decision", json={"decision": "approve", "reason": "looks right"})
    assert same.status_code == 200, "an identical repeat gets the same answer"


def test_HIT03_the_page_the_api_and_the_command_line_record_the_same(served: Served) -> None:
    """The page posts to `/tickets`, others to `/approvals`, the command line to either: one record."""
    server, client = served
    kept, outputs = [], []
    for way in ("page", "approvals", "cli"):
        run = start(client, "asks")
        ticket = ticket_of(client, run)["id"]
        if way == "page":
            with httpx.Client(base_url=server.url, headers={"Origin": server.url}) as browser:
                link = client.post("/session/link").json()
                assert browser.post("/api/v1/session", json={"code": link["code"]}).status_code == 200
                answer = browser.post(f"/api/v1/tickets/{ticket}/decision", json={"decision": "approve", "reason": "same"})
                assert answer.status_code == 200, answer.text
        elif way == "approvals":
            client.post(f"/approvals/{ticket}/decision", json={"decision": "approve", "reason": "same"})
        else:
            assert cli(server, "approve", ticket, "approve", "--reason", "same").returncode == 0
        view = ended(client, run)
        output = next(step["output"] for step in view["steps"] if step["id"] == "ask")
        record = client.get(f"/tickets/{ticket}").json()
        kept.append({name: record[name] for name in ("kind", "state", "decision", "reason", "step", "message")})
        outputs.append({name: value for name, value in output.items() if name != "by"})
    assert kept[0] == kept[1] == kept[2]
    assert outputs[0] == outputs[1] == outputs[2]


def test_HIT03_an_unknown_choice_says_what_can_be_chosen(served: Served) -> None:
    server, client = served
    ticket = ticket_of(client, start(client, "asks"))["id"]
    answer = client.post(f"/tickets/{ticket}/decision", json={"decision": "aprove"})
    assert answer.status_code == 422, answer.text
    assert "approve" in answer.text
    done = cli(server, "approve", ticket, "perhaps")
    assert done.returncode == 2
    assert "reject" in done.stderr


def test_HIT05_a_paused_run_resumes_after_a_restart_with_its_state(tmp_path: Path, both_url: str) -> None:
    """Pause by a customer, stop the server, start another, resume: finished steps are not repeated."""
    with Place(tmp_path, both_url, "odd_app:app") as place:
        server = place.serve()
        client = place.client(server)
        gate = tmp_path / "gate"
        run = start(client, "held", {"path": str(gate)})
        until("the step holds", lambda: events(client, run, node="holds", type="step.started"))
        assert client.post(f"/runs/{run}/pause", json={"reason": "lunch"}).status_code == 202
        paused = reaches(client, run, "paused")
        gate.touch()
        until("the running step ends", lambda: [
            s for s in client.get(f"/runs/{run}").json()["steps"] if s["id"] == "holds" and s["status"] == "completed"
        ])
        assert next(s for s in paused["steps"] if s["id"] == "first")["status"] == "completed"
        assert server.stop() == 0
        server = place.serve()
        client = place.client(server)
        assert client.get(f"/runs/{run}").json()["status"] == "paused"
        assert client.post(f"/runs/{run}/resume").status_code == 202
        view = ended(client, run)
        assert view["status"] == "completed"
        assert [s["attempt"] for s in view["steps"]] == [1, 1, 1]
        types = [e["type"] for e in events(client, run)]
        assert types.count("step.completed") == 3
        assert "run.paused" in types
        assert "run.resumed" in types
