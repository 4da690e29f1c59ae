"""The public event stream: one stable name and one set of field names for every journal event.

An event's id is `seq.i`: the record it stands in and its place there, from 0. Ids order a run's events.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tenuto.domain.runs.views import View


class PublicEvent(View):
    """One fact of a run as anyone outside reads it.

    Attributes:
        id: `seq.i`; give it back as `after` to go on from here.
        type: Public name, such as `step.completed`.
        step: The step concerned; empty for facts of the whole run.
        data: What else there is to know, by the public field names of the type.
    """

    id: str
    run: str
    type: str
    at: datetime | None
    step: str = ""
    node: str = ""
    data: dict[str, Any] = {}
