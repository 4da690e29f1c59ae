"""Changes of a run's graph: proposed, listed, shown as differences, decided, taken back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any

import msgspec

from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.overlay import overlay_of
from tenuto.domain.runs import breaker
from tenuto.domain.runs import events as ev
from tenuto.domain.runs import messages as msg
from tenuto.domain.runs.events_patches import Finding
from tenuto.domain.runs.patches import PROPOSALS, Verdict, examine, patch_id, view_of
from tenuto.domain.runs.state import TERMINAL, Patch, RunState
from tenuto.domain.runs.views import instant
from tenuto.domain.runs.wire import decode
from tenuto.errors import Conflict, Invalid, InvalidPatch, PatchMissing, Problem, RunTerminal
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.history import History
from tenuto.runtime.services.patch_views import ChangedView, DifferenceView, PatchableView, PatchView
from tenuto.runtime.services.requests import ListEvents
from tenuto.runtime.services.results import ProblemView
from tenuto.runtime.services.sending import is_known, repeated, send
from tenuto.runtime.services.tickets import Tickets
from tenuto.runtime.services.verdicts import difference_by
from tenuto.runtime.subflows import absent_workflows

WAIT_S = 5.0
"""How long a caller waits for the run's owner; after that the patch is on its way and the answer says so."""
_DECISIONS = ("approve", "reject")


class Patches:
    """Every use case of patches, for one namespace."""

    def __init__(self, context: Context, tickets: Tickets, history: History) -> None:
        """Use the collaborators of an engine."""
        self._c = context
        self._tickets = tickets
        self._history = history

    async def propose(
        self, run_id: str, operations: Any, *, base: str, reason: str = "", by: str = "", author: str = "person",
        idempotency_key: str = "", evidence: dict[str, Any] | None = None, wait_s: float = WAIT_S,
    ) -> PatchView:
        """Propose a change of a run's graph, and return what came of it; `sent` when nobody has looked at it in time.

        Args:
            operations: JSON Patch operations on `/nodes` and `/edges`.
            base: Digest of the graph they are made for.
            author: `person`, `optimizer`; agents propose from within their run.

        Raises:
            RunMissing: There is no such run.
            RunTerminal: It has ended.
            InvalidPatch: The patch cannot be applied; it is kept, and the error names it and every problem.
        """
        st, plan, _ = await self._c.load(run_id)
        name = patch_id(run_id, f"key/{idempotency_key}" if idempotency_key else secrets.token_hex(16))
        message = msg.ProposePatch(
            patch=name, base=base, ops=_raw(operations), by=by, author=author, reason=reason, evidence=evidence or {}
        )
        if await repeated(self._c, run_id, "patches", message, idempotency_key) is None:
            _takes_patches(st)
        absent = await absent_workflows(self._c.store, self._c.ns, plan.definition, operations)
        verdict = examine(st, plan, operations, base=base, author=author, around=self._c.surroundings(), absent=absent)
        message = msgspec.structs.replace(message, absent=absent)
        return await self._sent(st, name, message, idempotency_key, verdict, wait_s)

    async def undo(
        self, run_id: str, *, by: str = "", reason: str = "", idempotency_key: str = "", wait_s: float = WAIT_S
    ) -> PatchView:
        """Take back the newest patch in force: the graph before it is the run's again.

        Raises:
            Conflict: There is none.
            InvalidPatch: The run has relied on it already.
        """
        st, plan, _ = await self._c.load(run_id)
        if known := await self._done(run_id, "undo", idempotency_key, wait_s):
            return known
        _takes_patches(st)
        if not st.overlays:
            raise Conflict(f"run {run_id} goes by the graph it was created with; there is nothing to undo", code="patch.undo")
        taken = st.overlays[-1]
        return await self._back(st, plan, st.patches[taken].base, taken, by, reason, "undo", idempotency_key, wait_s)

    async def redo(
        self, run_id: str, *, by: str = "", reason: str = "", idempotency_key: str = "", wait_s: float = WAIT_S
    ) -> PatchView:
        """Bring back the patch taken back last, unless another was applied since.

        Raises:
            Conflict: There is none.
            InvalidPatch: The run has gone on in a way that rules it out.
        """
        st, plan, _ = await self._c.load(run_id)
        if known := await self._done(run_id, "redo", idempotency_key, wait_s):
            return known
        _takes_patches(st)
        if not st.undone:
            raise Conflict(f"run {run_id}: no patch was taken back that could be brought back", code="patch.redo")
        taken = st.undone[-1]
        return await self._back(st, plan, st.patches[taken].digest, taken, by, reason, "redo", idempotency_key, wait_s)

    async def _done(self, run_id: str, what: str, key: str, wait_s: float) -> PatchView | None:
        """Return the patch that was made under a key before: a repeat takes back, or brings back, nothing more."""
        if not await is_known(self._c, run_id, f"patches/{what}", key):
            return None
        seen = await self._until(run_id, 0, patch_id(run_id, f"{what}/{key}"), ("patch.proposed",), wait_s)
        return msgspec.structs.replace(_not_invalid(seen), replayed=True) if seen else None

    async def _back(
        self, st: RunState, plan: Plan, digest: str, taken: str, by: str, reason: str, what: str, key: str, wait_s: float
    ) -> PatchView:
        then = await self._c.definitions.plan(self._c.ns, digest)
        operations = overlay_of(plan.definition, then.definition)
        verdict = examine(st, plan, operations, base=st.digest, author="person", around=self._c.surroundings(), takes=taken)
        name = patch_id(st.id, f"{what}/{key}" if key else secrets.token_hex(16))
        message = msg.ProposePatch(patch=name, base=st.digest, ops=_raw(operations), by=by, reason=reason, takes=taken)
        return await self._sent(st, name, message, key, verdict, wait_s, f"patches/{what}")

    async def _sent(
        self, st: RunState, name: str, message: msg.ProposePatch, key: str, verdict: Verdict, wait_s: float,
        what: str = "patches",
    ) -> PatchView:
        accepted = await send(self._c, st.id, what, message, key, reopens=True)
        after = 0 if accepted.replayed else st.seq
        seen = await self._until(st.id, after, name, ("patch.proposed",), wait_s)
        if seen is None:
            if verdict.findings:
                raise _invalid(name, verdict.findings)
            seen = PatchView(
                id=name, run=st.id, status="sent", author=message.author, by=message.by, reason=message.reason,
                base_digest=message.base,
            )
        return msgspec.structs.replace(_not_invalid(seen), replayed=accepted.replayed)

    async def _until(self, run_id: str, seq: int, name: str, types: tuple[str, ...], wait_s: float) -> PatchView | None:
        """Return the patch once its run has said something of it; `None` when that takes too long, or the run ends."""
        where = ListEvents(types=types)
        try:
            async with asyncio.timeout(wait_s):
                async for event in self._history.stream(run_id, after=str(seq), where=where):
                    if event.data.get("patch") == name:
                        return await self.get(run_id, name)
        except TimeoutError:
            pass
        return None

    async def list(self, run_id: str, *, status: str | None = None) -> list[PatchView]:
        """Return the patches of a run, oldest first, refused ones with their reasons.

        Raises:
            RunMissing: There is no such run.
        """
        st, _, _ = await self._c.load(run_id)
        return [await self._view(st, name, patch) for name, patch in st.patches.items() if status in (None, patch.status)]

    async def get(self, run_id: str, patch: str) -> PatchView:
        """Return one patch with its operations and the difference it makes.

        Raises:
            PatchMissing: The run has none of that name; names the nearest.
        """
        st, _, _ = await self._c.load(run_id)
        return await self._view(st, *_of(st, patch), whole=True)

    async def graph(self, run_id: str) -> PatchableView:
        """Return what an author of patches has to see: the graph, what of it is open, what is left of the limits."""
        st, plan, _ = await self._c.load(run_id)
        return msgspec.convert(view_of(st, plan, self._c.surroundings()), PatchableView)

    async def decide(
        self, run_id: str, patch: str, decision: str, *, reason: str = "", by: str = "", wait_s: float = WAIT_S
    ) -> PatchView:
        """Approve a patch or turn it down; one that could not be applied is tried again on the graph as it is now.

        Raises:
            PatchMissing: The run has none of that name.
            Invalid: The decision does not exist, or a rejection has no reason.
            AlreadyDecided: It was decided otherwise before.
            InvalidPatch: It still cannot be applied.
        """
        if decision not in _DECISIONS:
            raise Invalid(f"{decision!r} does not decide a patch{did_you_mean(decision, _DECISIONS)}; allowed: "
                          f"{', '.join(_DECISIONS)}", code="patch.decision")
        if decision == "reject" and not reason.strip():
            raise Invalid("a rejection needs a reason", code="patch.reason")
        st, plan, _ = await self._c.load(run_id)
        name, found = _of(st, patch)
        if found.ticket:
            await self._tickets.decide(found.ticket, decision, reason=reason, by=by)
        elif found.status == "invalid":
            _alive(st)
            if decision == "approve" and found.ops is not None:
                operations = msgspec.json.decode(found.ops)
                verdict = examine(
                    st, plan, operations, base=found.base, author=found.author, around=self._c.surroundings(),
                    absent=await absent_workflows(self._c.store, self._c.ns, plan.definition, operations),
                )
                if verdict.findings:
                    raise _invalid(name, verdict.findings)
            message = msg.ReviewPatch(patch=name, decision=decision, reason=reason, by=by)
            await send(self._c, run_id, f"patches/{name}", message, "", reopens=True)
        elif not _agrees(found.status, decision):
            raise Conflict(f"patch {name} is {found.status} already", code="patch.decided")
        else:
            return msgspec.structs.replace(await self.get(run_id, name), replayed=True)
        decided = await self._until(run_id, st.seq, name, ("patch.applied", "patch.rejected"), wait_s)
        return decided or await self.get(run_id, name)

    # --- views ------------------------------------------------------------------------------------------------

    async def _view(self, st: RunState, name: str, patch: Patch, *, whole: bool = False) -> PatchView:
        said = await self._said(st, name, patch)
        view = PatchView(
            id=name, run=st.id, status=patch.status, author=patch.author, by=patch.by, step=patch.step,
            base_digest=patch.base, digest=patch.digest, ticket=patch.ticket, takes=patch.takes, at=instant(patch.at),
            number=f"1.{st.overlays.index(name) + 1}" if name in st.overlays else "",
        )
        if said is None:
            return view
        view.reason, view.asks, view.evidence = said.reason, said.asks, said.evidence
        view.changed = msgspec.convert(msgspec.to_builtins(said.changed), ChangedView)
        view.findings = [ProblemView(place=f.place, message=f.message, hint=f.hint, code=f.code) for f in said.findings]
        if whole:
            view.operations = msgspec.json.decode(said.ops)
            view.difference = await self._difference(st, said)
        return view

    async def _said(self, st: RunState, name: str, patch: Patch) -> ev.PatchProposed | None:
        for item in await self._c.store.records(st.id, patch.seq - 1, 1):
            for event in decode(item).ev:
                if isinstance(event, ev.PatchProposed) and event.patch == name:
                    return event
        return None

    async def _difference(self, st: RunState, said: ev.PatchProposed) -> DifferenceView | None:
        """Return what the patch changes, also while it waits; `None` where its operations cannot be applied at all."""
        if said.base not in _graphs(st):
            return None
        base = await self._c.definitions.plan(self._c.ns, said.base)
        return difference_by(base.definition, msgspec.json.decode(said.ops))


def _of(st: RunState, name: str) -> tuple[str, Patch]:
    patch = st.patches.get(name)
    if patch is None:
        raise PatchMissing(f"run {st.id} has no patch {name!r}{did_you_mean(name, list(st.patches))}", run=st.id, patch=name)
    return name, patch


def _graphs(st: RunState) -> set[str]:
    """Return the digests of the graphs a run has gone by; what else an author names as a base is no graph of it."""
    return {st.digest, st.version, *(patch.digest for patch in st.patches.values() if patch.status == "applied")} - {""}


def _alive(st: RunState) -> None:
    if st.status in TERMINAL:
        raise RunTerminal(f"run {st.id} is {st.status} and its graph is final", run=st.id, status=st.status)


def _takes_patches(st: RunState) -> None:
    _alive(st)
    if ticket := breaker.open_for(st, PROPOSALS):
        message = f"run {st.id} has made too many proposals and is paused; a person decides in ticket {ticket}"
        raise Conflict(message, code="patch.proposals", ticket=ticket)


def _agrees(status: str, decision: str) -> bool:
    return (status, decision) in (("applied", "approve"), ("rejected", "reject"))


def _not_invalid(view: PatchView) -> PatchView:
    """Return a patch that can be applied, or could be."""
    if view.status == "invalid":
        raise _invalid(view.id, view.findings)
    return view


def _invalid(name: str, findings: Iterable[Finding | ProblemView]) -> InvalidPatch:
    problems = tuple(Problem(f.place, f.message, f.hint, f.code) for f in findings)
    many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return InvalidPatch(
        f"patch {name} cannot be applied: {many}; it is kept for a person to look at", patch=name, problems=problems
    )


def _raw(operations: Any) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(operations))
    except (TypeError, ValueError, OverflowError) as exc:
        raise Invalid(f"the operations have no JSON form: {exc}", code="patch.type") from exc
