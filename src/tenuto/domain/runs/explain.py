"""Why a run is not getting on: everything it waits for, since when, and who can move it."""

from __future__ import annotations

from datetime import datetime

from tenuto.domain.runs.views import View, WaitView


class Explanation(View):
    """The answer to "why is nothing happening".

    Attributes:
        summary: One sentence for a person.
        owner: The worker that owns the run now.
        lease_until: When its lease ends unless it is renewed; past = the run is about to be taken over.
        waits: Everything waited for, the most pressing first; empty when the run has ended or is progressing.
        running: Steps whose code runs just now.
    """

    id: str
    status: str
    summary: str
    since: datetime | None = None
    owner: str | None = None
    lease_until: datetime | None = None
    waits: list[WaitView] = []
    running: list[str] = []
