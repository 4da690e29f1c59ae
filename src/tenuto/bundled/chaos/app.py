"""The app the chaos run's workers serve: one workflow for each shape of run."""

from __future__ import annotations

import os

from tenuto.bundled.chaos import steps
from tenuto.domain.graph.model import Retry
from tenuto.runtime.worker.lease import Lease
from tenuto.sdk.app import App
from tenuto.sdk.builder import Graph

TRUSTING = "TENUTO_CHAOS_TRUSTING"
RETRY = Retry(attempts=8, backoff_s=0.05, max_backoff_s=0.5)

app = App("chaos")


def _register() -> None:
    for fn in (
        steps.bump, steps.take_time, steps.item, steps.broken, steps.threaded, steps.calls, steps.hear, steps.never,
        steps.consent,
    ):
        app.step(retry=RETRY)(fn)
    app.step(retry=RETRY, isolation="process")(steps.crunch)
    app.step(retry=RETRY, effect="effect", on_unknown="ask")(steps.ship)
    app.step()(steps.poison)
    app.step()(steps.venom)
    app.tool(effect="effect", unknown="retry", retry=RETRY)(steps.pay_again)
    app.tool(effect="effect", unknown="ask", retry=RETRY)(steps.pay_ask)
    app.tool(effect="effect", unknown="ledger", retry=RETRY)(steps.pay_hook)
    app.tool(effect="idempotent")(steps.search)
    app.status_hook("ledger")(steps.outcome)


def _plain() -> None:
    chain = app.workflow("chain").step(steps.bump, id="s0", input={"n": "${input.n}"})
    for at in range(1, 5):
        fn = (steps.bump, steps.take_time, steps.threaded)[at % 3]
        chain.step(fn, id=f"s{at}", input={"n": f"${{nodes.s{at - 1}.output}}"}, after=f"s{at - 1}")

    fork = app.workflow("fork").step(steps.bump, id="start", input={"n": "${input.n}"})
    fork.step(steps.take_time, id="even", input={"n": "${nodes.start.output}"})
    fork.step(steps.bump, id="odd", input={"n": "${nodes.start.output}"})
    fork.step(steps.bump, id="both", input={"n": "${nodes.start.output}"}, after="start")
    fork.edge("start", "even", when="output % 2 == 0").edge("start", "odd", when="output % 2 == 1")
    fork.join("meet", after=["even", "odd", "both"])
    fork.step(steps.bump, id="last", input={"n": "${nodes.both.output}"}, after="meet")

    quorum = app.workflow("quorum")
    for at in range(4):
        quorum.step(steps.take_time if at % 2 else steps.bump, id=f"v{at}", input={"n": at})
    quorum.join("two", 2, after=[f"v{at}" for at in range(4)])
    quorum.step(steps.bump, id="last", input={"n": "${input.n}"}, after="two")

    loop = app.workflow("loop").transform("state", template={"k": "${input.n}"})
    loop.step(steps.bump, id="again", input={"n": "${iteration}"}, after="state")
    loop.edge("again", "again", when="output < input.n", max_iterations=9)
    loop.step(steps.bump, id="last", input={"n": "${nodes.again.output}"}, after="again")

    handled = app.workflow("handled").step(steps.broken, id="try")
    handled.step(steps.bump, id="mend", input={"n": "${input.n}"}).edge("try", "mend", on="error")


def _body(fn: object, **given: object) -> Graph:
    return app.body().step(fn, id="one", input=given)  # type: ignore[arg-type]


def _many() -> None:
    spread = app.workflow("spread")
    spread.map("m", over="${input.items}", body=_body(steps.item, value="${item}"), on_failure="collect")
    spread.step(steps.bump, id="last", input={"n": "${input.n}"}, after="m")

    apart = app.workflow("apart")
    apart.map(
        "m", over="${input.items}", body=_body(steps.crunch, value="${item}", run="${run.id}", index="${index}")
    )

    inner = app.workflow("inner").step(steps.bump, id="a", input={"n": "${input.n}"})
    inner.step(steps.take_time, id="b", input={"n": "${nodes.a.output}"}, after="a")
    middle = app.workflow("middle").subflow("inner", "inner", input={"n": "${input.n}"})
    middle.step(steps.bump, id="c", input={"n": "${nodes.inner.output.b}"}, after="inner")
    outer = app.workflow("outer").subflow("one", "middle", input={"n": "${input.n}"})
    outer.subflow("two", "inner", input={"n": "${input.n}"})
    outer.step(steps.bump, id="last", input={"n": "${nodes.one.output.c}"}, after=["one", "two"])


def _waiting() -> None:
    app.workflow("calls").step(steps.calls, id="calls")
    signals = app.workflow("signals").step(steps.hear, id="hear")
    signals.wait_signal("after", id="after", after="hear")
    timers = app.workflow("timers").step(steps.bump, id="a", input={"n": "${input.n}"})
    timers.sleep("nap", "${input.seconds}", after="a")
    timers.step(steps.bump, id="b", input={"n": "${nodes.a.output}"}, after="nap")
    approve = app.workflow("approve").approval("ask", message="Shall ${input.n} pass?")
    approve.step(steps.bump, id="yes", input={"n": "${input.n}"}, after="ask")
    approve.transform("no", template="refused").edge("ask", "no", on="rejected")
    app.workflow("consent").step(steps.consent, id="consent")
    endless = app.workflow("endless").step(steps.bump, id="a", input={"n": "${input.n}"})
    endless.step(steps.never, id="b", after="a")


def _effects() -> None:
    pay = app.workflow("pay")
    order = {"order": "${input.order}"}
    pay.tool(steps.pay_again, id="p1", args=order, retry=RETRY)
    pay.tool(steps.pay_ask, id="p2", args=order, retry=RETRY, after="p1")
    pay.tool(steps.pay_hook, id="p3", args=order, retry=RETRY, after="p2")
    app.workflow("ship").step(steps.ship, id="ship", input=order)
    capped = app.workflow("capped").budget(per_tool={"search": 2})
    for before, name in zip(("", "a", "b"), "abc", strict=True):
        capped.tool(steps.search, id=name, args={"query": name}, after=before or ())
    app.workflow("poison").step(steps.poison, id="poison", input={"run": "${run.id}"})
    app.workflow("venom").step(steps.venom, id="venom")


def _trust_the_clock() -> None:
    """Let this process believe in its lease for ever, as one whose whole machine stood still would.

    Then only the store's fence stands between its late writes and the journal.
    """

    def believes(self: Lease) -> bool:
        return True

    Lease.holds = believes


_register()
_plain()
_many()
_waiting()
_effects()
if os.environ.get(TRUSTING):
    _trust_the_clock()
