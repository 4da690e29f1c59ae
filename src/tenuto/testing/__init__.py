"""A kit for testing workflows and stores: scripted models, virtual time, faulty stores, whole simulated histories.

- `run_virtual(coroutine)` runs asyncio code on virtual time: sleeps and time-outs take no time and always come out
  the same. `VirtualClock` is the engine's clock on it, or one moved by hand.
- `ScriptedModel` answers for a model, by a function, from a list, or by echo.
- `CassetteModel` records the answers of a real model in a file and replays them.
- `tenuto.testing.servers` are providers of models on loopback: real HTTP, faults and bills by script.
- `FaultyStore` is one process's view of a store through a bad network, by a plan of `Fault`s.
- `tenuto.testing.conformance` is the suite every store must pass.
- `tenuto.testing.simulation` runs the whole engine under faults, one seed at a time.
"""

from __future__ import annotations

from tenuto.adapters.models.cassette import CassetteModel
from tenuto.adapters.models.scripted import ScriptedModel
from tenuto.testing.clock import VirtualClock
from tenuto.testing.faulty import Fault, Faults, FaultyStore
from tenuto.testing.loop import Stalled, VirtualLoop, run_virtual

__all__ = [
    "CassetteModel", "Fault", "Faults", "FaultyStore", "ScriptedModel", "Stalled", "VirtualClock", "VirtualLoop", "run_virtual",
]  # fmt: skip
