"""Classes of tools: their methods are tools, their constructors get what is provided, tests provide something else."""

from __future__ import annotations

import pytest

from tenuto import App
from tenuto.errors import InvalidGraph


class Ledger:
    def __init__(self) -> None:
        self.lines: list[str] = []


class Bank:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def pay(self, to: str, cents: int) -> str:
        self.ledger.lines.append(f"{to} {cents}")
        return "paid"


class Desk:
    """Tools of a desk."""

    def __init__(self, bank: Bank, greeting: str = "Dear") -> None:
        self.bank = bank
        self.greeting = greeting

    async def refund(self, to: str, cents: int, idempotency_key: str = "") -> str:
        """Pay back.

        Args:
            to: Who gets it.
        """
        assert idempotency_key
        return f"{self.greeting} {to}: {self.bank.pay(to, cents)}"

    def look(self) -> int:
        """Count what was paid."""
        return len(self.bank.ledger.lines)

    def _hidden(self) -> None: ...


def desk() -> App:
    app = App("t")
    app.provide(Bank, Bank)
    app.provide(Ledger, Ledger)
    assert app.tools(Desk, prefix="desk", effects={"look": "idempotent"}) == ["desk.look", "desk.refund"]
    app.workflow("w").tool("desk.refund", id="r", args={"to": "Ada", "cents": 5}).tool("desk.look", id="n", args={}, after="r")
    return app


async def test_methods_are_tools_and_dependencies_are_made_once():
    app, ledger = desk(), Ledger()
    app.provide(Ledger, lambda: ledger)
    tool = app.catalog().tools["desk.refund"]
    assert tool.schema is not None
    assert tool.schema["properties"]["to"]["description"] == "Who gets it."
    assert (tool.effect, app.catalog().tools["desk.look"].effect) == ("effect", "idempotent")
    assert await app.run("w", url="memory:") == {"n": 1}
    assert ledger.lines == ["Ada 5"]


async def test_a_test_replaces_a_provider_without_patching():
    class Fake(Bank):
        def __init__(self) -> None:
            super().__init__(Ledger())

        def pay(self, to: str, cents: int) -> str:
            return "pretended"

    app = desk()
    app.provide(Bank, Fake)
    assert await app.run("w", url="memory:") == {"n": 0}


def test_what_nothing_provides_is_named():
    app = App("t")
    app.tools(Desk)
    with pytest.raises(InvalidGraph, match=r"needs a Bank.*app\.provide\(Bank"):
        app.catalog()
    app.provide(Bank, Bank)
    with pytest.raises(InvalidGraph, match="needs a Ledger"):
        app.catalog()
