"""How often is looked at what is outside: hosts of models and APIs. MCP servers have times of their own."""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.settings.keys import between, key


@dataclass(frozen=True, kw_only=True)
class Services:
    """How each process looks at what is outside."""

    check_s: float = key(60.0, "time between two looks at hosts of models and at APIs; 0 looks only when asked",
                         between(0, 86_400, " s"))  # fmt: skip
    timeout_s: float = key(10.0, "longest time one look may take", between(0.01, 600, " s"))
