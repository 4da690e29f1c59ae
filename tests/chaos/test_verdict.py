"""The chaos run's own judgement: that it sees what is wrong."""

from __future__ import annotations

from tenuto.bundled.chaos.faults import Harm, Wanted
from tenuto.bundled.chaos.journals import Journals, Takeover
from tenuto.bundled.chaos.ledger import Entry
from tenuto.bundled.chaos.report import Report, lines
from tenuto.bundled.chaos.shapes import DEADLY, SHAPES, plan_runs
from tenuto.bundled.chaos.verdict import effects, takeovers


def entry(seq: int, what: str, attempt: int = 1, **rest: str) -> Entry:
    call = rest.get("call", "c")
    return Entry(seq=seq, t=seq, what=what, key="r/s/c", run="r", step="s", call=call, attempt=attempt, pid=1)


def test_an_effect_made_twice_is_wrong_unless_its_outcome_was_lost():
    twice = [entry(1, "effect"), entry(2, "effect", 2)]
    found, problems = effects(twice, Journals())
    assert found.repeated == 1
    assert len(problems) == 1
    found, problems = effects(twice, Journals(flagged={("r", "s", "c")}))
    assert (found.repeated, found.repeated_flagged, problems) == (0, 1, [])


def test_a_finished_call_that_is_made_again_is_wrong():
    journals = Journals(results={("r", "s", "c"): b"1"})
    _, problems = effects([entry(1, "call"), entry(2, "call", 2)], journals)
    assert len(problems) == 1
    assert "repeated" in problems[0]


def test_a_call_that_a_zombie_makes_late_is_counted_and_not_wrong():
    journals = Journals(results={("r", "s", "c"): b"2"})
    found, problems = effects([entry(1, "call"), entry(2, "call", 2), entry(3, "call", 1)], journals)
    assert problems == []
    assert found.zombie_calls == 1


def test_an_attempt_after_the_step_was_done_is_wrong():
    journals = Journals(completed={("r", "s"): 1})
    _, problems = effects([entry(1, "step", call=""), entry(2, "step", 2, call="")], journals)
    assert len(problems) == 1


def test_a_finished_payment_the_ledger_never_saw_is_wrong():
    _, problems = effects([], Journals(results={("r", "p1", "pay_again"): b"{}"}))
    assert len(problems) == 1


def test_takeovers_are_timed_from_the_death_of_the_owner():
    journals = Journals(takeovers=[Takeover("r", 7, 3_500), Takeover("q", 8, 9_000), Takeover("p", 9, 1)])
    harm = Harm(killed={7: 1_000}, stopped=[(8, 5_000, 9_500)])
    found = takeovers(journals, harm, 2_000)
    assert (found.measured, found.max_ms, found.late) == (2, 4_000, 1)
    assert found.by_cause == {"killed": 1, "stopped": 1, "other": 1}


def test_the_same_seed_plans_the_same_runs_with_every_shape():
    runs = plan_runs(500, 3)
    assert [(one.name, one.input, one.acts) for one in runs] == [
        (one.name, one.input, one.acts) for one in plan_runs(500, 3)
    ]
    assert {one.name for one in runs} == {*SHAPES, *DEADLY}
    assert len(runs) == 500


def test_the_exit_code_tells_wrong_from_too_little():
    report = Report(store="sqlite", seed=1, workers=3, failures=0.4, lease_s=2)
    assert report.exit_code == 0
    report.missing = ["kills: 1, wanted 20"]
    assert report.exit_code == 2
    report.problems = ["lost"]
    assert report.exit_code == 1
    assert any("lost" in line for line in lines(report))
    full = Wanted.of(500, postgres=True)
    assert (full.kills, full.stops, full.restarts, full.live, full.zombies) == (20, 10, 3, 50, 5)
