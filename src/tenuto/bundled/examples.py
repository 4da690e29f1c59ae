"""The bundled examples: what `tenuto serve` and `tenuto worker` serve when they are given no app.

`triage`, `research-swarm`, `stripe_refund`, `conditional`, `data-extraction` and `review`, with handlers for plain
step lists. Everything runs offline and without a key.
"""

from __future__ import annotations

from tenuto.bundled import examples_research, examples_review, examples_steps, examples_support
from tenuto.sdk.app import App

app = App("examples")

examples_steps.register(app)
examples_support.register(app)
examples_research.register(app)
examples_review.register(app)
