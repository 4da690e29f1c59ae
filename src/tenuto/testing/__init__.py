"""A kit for testing workflows and stores: scripted models, virtual time, faulty stores, whole simulated histories.

- `run_virtual(coroutine)` runs asyncio code on virtual time: sleeps and time-outs take no time and always come out
  the same. `VirtualClock` is the engine's clock on it, or one moved by hand.
- `ScriptedModel` answers for a model, by a function, from a list, or by echo.
- `FaultyStore` is one process's view of a store through a bad network, by a plan of `Fault`s.
- `tenuto.testing.conformance` is the suite every store must pass.
- `tenuto.testing.simulation` runs the whole engine under faults, one seed at a time.
"""

from __future__ import annotations

from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.testing.clock import VirtualClock
from tenuto.testing.faulty import Fault, Faults, FaultyStore
from tenuto.testing.loop import Stalled, VirtualLoop, run_virtual

__all__ = [
    "Fault", "Faults", "FaultyStore", "ScriptedModel", "Stalled", "VirtualClock", "VirtualLoop", "run_virtual",
]  # fmt: skip
