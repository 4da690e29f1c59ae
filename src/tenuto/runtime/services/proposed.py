"""What the store keeps of a proposal beside what it works with."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.ports.optimizers import Gain
from tenuto.ports.proposals import ProposalRow
from tenuto.runtime.services.gain_views import SavingView
from tenuto.runtime.services.patch_views import ChangedView
from tenuto.runtime.services.results import ProblemView


class Body(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What people are shown."""

    by: str = ""
    title: str = ""
    reason: str = ""
    asks: str = ""
    ops: list[Any] = []
    changed: ChangedView = msgspec.field(default_factory=ChangedView)
    gain: Gain = Gain()
    evidence: dict[str, Any] = {}


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Who decided and why, or why it cannot be applied."""

    decision: str = ""
    by: str = ""
    reason: str = ""
    findings: list[ProblemView] = []


def answer_of(row: ProposalRow) -> Answer:
    """Return what became of a proposal; nothing while it waits."""
    return msgspec.json.decode(row.answer, type=Answer) if row.answer else Answer()


def saving(gain: Gain) -> SavingView:
    """Return what a run is expected to save as answers show it."""
    return SavingView(ms=gain.ms, steps=gain.steps, requests=gain.requests, cost_usd_micros=gain.cost_usd_micros)


def expected_of(row: ProposalRow) -> tuple[str, Gain]:
    """Return a proposal's title and what a run was expected to save."""
    body = msgspec.json.decode(row.body, type=Body)
    return body.title or body.reason, body.gain
