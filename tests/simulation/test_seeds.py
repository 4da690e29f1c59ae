"""Three hundred simulated histories under faults keep every promise, and together meet everything there is to meet.

Soak: `pytest tests/simulation --seeds 10000`, or, with a report and no pytest,
`python -m tenuto.testing.simulation --seeds 0..9999 --processes 2 --report`.
"""

from __future__ import annotations

from tenuto.testing.faulty import MOMENTS, POINTS
from tenuto.testing.report import Report
from tenuto.testing.simulation import run_seed, shown
from tenuto.testing.workloads import scenarios


def test_every_promise_is_kept(seeds: range):
    report = Report()
    for seed in seeds:
        verdict = run_seed(seed)
        assert not verdict.wrong, shown(verdict, 60)
        assert verdict.faults >= 10
        report.add(verdict.report)
    assert report.runs >= 20 * len(seeds)
    names = {f"fault {name}" for name in (*POINTS, *MOMENTS)}
    assert len(seeds) < 30 or not names & set(report.missing()), report.text()


def test_together_they_meet_every_event_and_every_reachable_change_of_status():
    report, missing = Report(), ["all"]
    for seed in range(1, 9):
        for name in scenarios() if missing else ():
            # One kind of run at a time: what a mixed seed meets by luck, this meets on purpose.
            report.add(run_seed(seed, only=name).report)
        missing = [name for name in report.missing() if not name.startswith("fault")]
    assert not missing, report.text()
