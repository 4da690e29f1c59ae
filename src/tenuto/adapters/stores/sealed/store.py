"""A store around another one, in which every payload is sealed: the file or server sees envelopes only.

What is never sealed is what the store has to work with: ids, positions, states, times, namespaces, names of workflows,
nodes, steps and handlers, keys of messages, and amounts of money with the provider, model and project they belong to.
Everything else goes through `Rows`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from tenuto.adapters.stores.sealed.cache import SealedResults
from tenuto.adapters.stores.sealed.envelope import Envelopes
from tenuto.adapters.stores.sealed.masters import Masters
from tenuto.adapters.stores.sealed.notifications import SealedNotifications
from tenuto.adapters.stores.sealed.ring import EVERYBODY, KeyRing
from tenuto.adapters.stores.sealed.rows import Rows, UnknownKey
from tenuto.domain.runs.wire import Record
from tenuto.errors import Corrupt, InvalidSettings
from tenuto.ports.artifacts import ArtifactRow
from tenuto.ports.checkpoints import Place, Saved
from tenuto.ports.findings import DeletedFinding
from tenuto.ports.lineage import TagMove
from tenuto.ports.plugins import OptimizerRow
from tenuto.ports.proposals import ProposalFilter, ProposalRow, ProposalState, Settled
from tenuto.ports.services import ReportRow
from tenuto.ports.starts import Turn
from tenuto.ports.store import (
    Claim,
    Commit,
    Committed,
    History,
    InboxRow,
    Once,
    OutboxRow,
    RunFilter,
    RunRow,
    SendOutcome,
    StepFilter,
    StepRow,
    Store,
    TaskRow,
    TicketRow,
    WorkflowRow,
)  # fmt: skip

T = TypeVar("T")
NAMESPACES_KNOWN = 100_000
SEARCHED_AT_ONCE = 500


class SealedStore(SealedResults, SealedNotifications):
    """Seals on the way in and opens on the way out; methods without payloads are those of the store inside.

    Args:
        inner: Where it is kept. Its takeovers are made here from now on.
        masters: The keys that wrap the keys.
    """

    def __init__(self, inner: Store, masters: Masters) -> None:
        self.inner = inner
        self.ring = KeyRing(inner, masters)
        self._envelopes = Envelopes(self.ring)
        self._rows = Rows(self.ring, self._envelopes)
        self._namespaces: OrderedDict[str, str] = OrderedDict()
        inner.make_taken = self._rows.taken

    def __getattr__(self, name: str) -> Any:
        """Return what has no payload as the store inside has it."""
        return getattr(self.inner, name)

    async def open(self, *, migrate: bool = True) -> None:
        """Open the store inside and read the keys.

        Raises:
            InvalidSettings: It holds runs that were never sealed, or keys that no master key of ours opens.
        """
        await self.inner.open(migrate=migrate)
        await self.ring.refresh()
        if not len(self.ring) and await self.inner.run_ids("", 1):
            await self.inner.close()
            raise InvalidSettings(
                "encryption is on, but the database holds runs that were stored without it; "
                "start with a new database, or turn the settings of `encryption` off"
            )

    def name(self, ns: str, digest: str) -> str:
        """Return the name under which a value is kept."""
        return self._envelopes.name(ns, digest)

    async def _opened(self, work: Callable[[], T]) -> T:
        """Open what was read, with the keys as they are now where one of them is not known yet."""
        self._envelopes.missed = False
        try:
            result = work()
        except Corrupt:
            if not self._envelopes.missed:
                raise
        else:
            if not self._envelopes.missed:
                return result
        await self.ring.refresh()
        return work()

    # --- definitions ------------------------------------------------------------------------------------------

    async def put_workflow(self, row: WorkflowRow) -> None:
        """Store a sealed version."""
        await self.ring.ready([EVERYBODY])
        await self.inner.put_workflow(self._rows.workflow(row))

    async def move_tag(self, move: TagMove, version: WorkflowRow | None = None) -> bool:
        """Move a tag; who did and why is sealed, and so is the version."""
        await self.ring.ready([EVERYBODY])
        stored = self._rows.workflow(version) if version is not None else None
        return await self.inner.move_tag(self._rows.tag_move(move), stored)

    async def tag_moves(self, ns: str, name: str, tag: str | None = None) -> list[TagMove]:
        """Return the moves of a workflow's tags."""
        found = await self.inner.tag_moves(ns, name, tag)
        return await self._opened(lambda: [self._rows.open_tag_move(move) for move in found])

    async def get_definition(self, ns: str, digest: str) -> bytes | None:
        """Return a version's canonical JSON."""
        found = await self.inner.get_definition(ns, digest)
        if found is None:
            return None
        return await self._opened(lambda: self._rows.definition(ns, digest, found))

    async def list_workflows(self, ns: str, name: str | None = None) -> list[WorkflowRow]:
        """Return versions with their tags."""
        found = await self.inner.list_workflows(ns, name)
        return await self._opened(lambda: [self._rows.open_workflow(row) for row in found])

    # --- the journal ------------------------------------------------------------------------------------------

    async def commit(self, batch: Sequence[Commit]) -> list[Committed]:
        """Make a sealed group durable; a commit that cannot be sealed is poison, and its neighbours stand."""
        await self.ring.ready({ns for commit in batch for ns in self._rows.namespaces(commit)})
        answers: dict[int, Committed] = {}
        sealed: list[Commit] = []
        for at, commit in enumerate(batch):
            try:
                sealed.append(self._rows.commit(commit))
            except (TypeError, ValueError, AttributeError) as error:
                answers[at] = Committed("poison", error=f"{type(error).__name__}: {error}")
        others = iter(await self.inner.commit(sealed) if sealed or not answers else ())
        return [answers[at] if at in answers else next(others) for at in range(len(batch))]

    async def create_once(self, commit: Commit, key: str, body_digest: str) -> tuple[str, bool]:
        """Create a run under an idempotency key."""
        await self.ring.ready(self._rows.namespaces(commit))
        digest = self._rows.request(commit.ns, key, body_digest)
        return await self.inner.create_once(self._rows.commit(commit), key, digest)

    async def create_business(self, commit: Commit) -> tuple[str, bool]:
        """Create a run unless an unfinished one has its business key."""
        await self.ring.ready(self._rows.namespaces(commit))
        return await self.inner.create_business(self._rows.commit(commit))

    async def load(self, run_ids: Sequence[str]) -> list[History]:
        """Return histories; one that is refused says why, and the others stand."""
        found = await self.inner.load(run_ids)
        return await self._opened(lambda: [self._rows.history(item) for item in found])

    async def records(self, run_id: str, after: int = 0, limit: int = 1000) -> list[Record]:
        """Return records in order."""
        found = await self.inner.records(run_id, after, limit)
        return await self._opened(lambda: [self._rows.open_record(run_id, item) for item in found])

    async def get_blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return those values that exist, in whichever namespace."""
        found = await self._blobs(digests)
        if len(found) < len(set(digests)):
            await self.ring.refresh()
            found = await self._blobs(digests)
        return found

    async def _blobs(self, digests: Sequence[str]) -> dict[str, bytes]:
        names = {self.name(ns, digest): (ns, digest) for ns in self.ring.namespaces() for digest in digests}
        stored = await self.inner.get_blobs(list(names)) if names else {}
        return await self._opened(
            lambda: {names[name][1]: self._rows.open_blob(names[name][0], name, body) for name, body in stored.items()}
        )

    async def put_blobs(self, blobs: Sequence[tuple[str, bytes]], *, ns: str = "default") -> None:
        """Store sealed values of a namespace."""
        await self.ring.ready([ns])
        await self.inner.put_blobs(self._rows.blobs(ns, blobs), ns=ns)

    # --- ownership --------------------------------------------------------------------------------------------

    async def steal(self, worker: str, limit: int) -> list[Claim]:
        """Take runs whose owner's lease has ended."""
        return await self._taking(lambda: self.inner.steal(worker, limit))

    async def retake(self, worker: str, runs: Sequence[tuple[str, int]]) -> list[Claim]:
        """Take some of our own runs anew."""
        return await self._taking(lambda: self.inner.retake(worker, runs))

    async def _taking(self, take: Any) -> list[Claim]:
        await self.ring.ready(())
        try:
            return await take()
        except UnknownKey:
            await self.ring.refresh()
        self._rows.strict = False
        try:
            return await take()
        finally:
            self._rows.strict = True

    # --- messages ---------------------------------------------------------------------------------------------

    async def send(
        self, run_id: str, key: str, body: bytes, *, reopens: bool = False, once: Once | None = None
    ) -> SendOutcome:
        """Put a sealed message in a run's inbox."""
        ns = await self._namespace(run_id)
        if ns is None:
            kept = await self.inner.answered(once.ns, once.key) if once is not None else None
            return "missing" if kept is None else "duplicate"
        await self.ring.ready([ns] if once is None else [ns, once.ns])
        sealed = self._rows.inbox(ns, run_id, key, body)
        return await self.inner.send(run_id, key, sealed, reopens=reopens, once=once and self._rows.once(once))

    async def answered(self, ns: str, key: str) -> Once | None:
        """Return what is kept under an idempotency key."""
        found = await self.inner.answered(ns, key)
        return await self._opened(lambda: found and self._rows.open_once(found))

    async def inbox(self, run_id: str, after: int = 0) -> list[InboxRow]:
        """Return unconsumed messages in order."""
        found = await self.inner.inbox(run_id, after)
        return await self._opened(lambda: [self._rows.open_inbox(run_id, row) for row in found])

    async def outbox(self, limit: int) -> list[OutboxRow]:
        """Return undelivered messages; what is refused stays undelivered."""
        found = await self.inner.outbox(limit)
        return await self._opened(lambda: self._rows.open_messages(found))

    async def _namespace(self, run_id: str) -> str | None:
        """Return a run's namespace, which never changes."""
        known = self._namespaces.get(run_id)
        if known is None:
            row = await self.inner.get_run(run_id)
            if row is None:
                return None
            known = self._namespaces[run_id] = row.ns
            if len(self._namespaces) > NAMESPACES_KNOWN:
                self._namespaces.popitem(last=False)
        return known

    # --- tickets and tasks ------------------------------------------------------------------------------------

    async def tickets(
        self, ns: str, *, kind: str | None = None, state: str | None = None, run_id: str | None = None,
        after: str = "", limit: int = 100,
    ) -> list[TicketRow]:  # fmt: skip
        """Return tickets, newest first."""
        found = await self.inner.tickets(ns, kind=kind, state=state, run_id=run_id, after=after, limit=limit)
        return await self._opened(lambda: [self._rows.open_ticket(row) for row in found])

    async def get_ticket(self, ns: str, ticket: str) -> TicketRow | None:
        """Return one ticket."""
        found = await self.inner.get_ticket(ns, ticket)
        return await self._opened(lambda: found and self._rows.open_ticket(found))

    async def decide_ticket(
        self, ns: str, ticket: str, answer: bytes, key: str, body: bytes, *, votes: int = 0, closes: bool = True
    ) -> TicketRow | None:
        """Answer a ticket and send the answer, sealed."""
        known = await self.inner.get_ticket(ns, ticket)
        if known is None:
            return None
        await self.ring.ready([ns])
        sealed = self._rows.inbox(ns, known.run_id, key, body)
        answer = self._rows.answer(ns, ticket, answer)
        found = await self.inner.decide_ticket(ns, ticket, answer, key, sealed, votes=votes, closes=closes)
        return await self._opened(lambda: found and self._rows.open_ticket(found))

    async def take_tasks(self, worker: str, limit: int, handlers: Sequence[str]) -> list[TaskRow]:
        """Take waiting tasks."""
        found = await self.inner.take_tasks(worker, limit, handlers)
        return await self._opened(lambda: [self._rows.open_task(row) for row in found])

    # --- reading ----------------------------------------------------------------------------------------------

    async def get_run(self, run_id: str) -> RunRow | None:
        """Return a run's row."""
        found = await self.inner.get_run(run_id)
        return await self._opened(lambda: found and self._rows.open_run(found))

    async def list_runs(self, where: RunFilter, *, after: str = "", limit: int = 50) -> list[RunRow]:
        """Return runs, newest first. A text is looked for in every row of the namespace, for no index can know it."""
        if where.labels:
            if not self.ring.has(where.ns):
                await self.ring.refresh()
            if not self.ring.has(where.ns):
                return []
            where = replace(where, labels=self._rows.labels(where.ns, where.labels))
        if not where.text:
            listed = await self.inner.list_runs(where, after=after, limit=limit)
            return await self._opened(lambda: [self._rows.open_run(row) for row in listed])
        text, where = where.text.casefold(), replace(where, text="")
        found: list[RunRow] = []
        while len(found) < limit:
            part = await self.inner.list_runs(where, after=after, limit=SEARCHED_AT_ONCE)
            rows = await self._opened(lambda part=part: [self._rows.open_run(row) for row in part])
            found += [row for row in rows if text in row.goal.casefold() or text in row.id]
            if len(part) < SEARCHED_AT_ONCE:
                break
            after = part[-1].cursor
        return found[:limit]

    async def project_steps(self, name: str, rows: Sequence[StepRow], cursors: Mapping[int, int]) -> None:
        """Upsert step rows, their errors sealed."""
        await self.ring.ready({row.ns for row in rows if row.error})
        await self.inner.project_steps(name, [self._rows.step(row) for row in rows], cursors)

    async def list_steps(self, where: StepFilter, *, after: str = "", limit: int = 100) -> list[StepRow]:
        """Return steps across runs, newest first."""
        found = await self.inner.list_steps(where, after=after, limit=limit)
        return await self._opened(lambda: [self._rows.open_step(row) for row in found])

    # --- artifacts --------------------------------------------------------------------------------------------

    async def put_artifact(self, row: ArtifactRow, *, lost: str = "") -> ArtifactRow | None:
        """Make sealed bytes known, under a name that does not tell their digest."""
        await self.ring.ready([row.ns])
        return await self._artifact(await self.inner.put_artifact(self._rows.artifact(row), lost=lost))

    async def renew_artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact and take back that nothing uses it."""
        return await self._artifact(await self.inner.renew_artifact(ns, self.name(ns, name))) if await self._has(ns) else None

    async def artifact(self, ns: str, name: str) -> ArtifactRow | None:
        """Return an artifact."""
        return await self._artifact(await self.inner.artifact(ns, self.name(ns, name))) if await self._has(ns) else None

    async def list_artifacts(self, ns: str, *, after: str = "", limit: int = 100) -> list[ArtifactRow]:
        """Return artifacts, newest first."""
        found = await self.inner.list_artifacts(ns, after=after, limit=limit)
        return await self._opened(lambda: [self._rows.open_artifact(row) for row in found])

    async def _artifact(self, found: ArtifactRow | None) -> ArtifactRow | None:
        return await self._opened(lambda: found and self._rows.open_artifact(found))

    async def _has(self, ns: str) -> bool:
        """Return whether a namespace has keys, without which it has nothing."""
        if not self.ring.has(ns):
            await self.ring.refresh()
        return self.ring.has(ns)

    # --- reports ----------------------------------------------------------------------------------------------

    async def put_report(self, row: ReportRow, keep_ms: int) -> None:
        """Replace what a process reported, sealed."""
        await self.ring.ready([EVERYBODY])
        await self.inner.put_report(self._rows.report(row), keep_ms)

    async def reports(self) -> list[ReportRow]:
        """Return what processes reported."""
        found = await self.inner.reports()
        return await self._opened(lambda: [self._rows.open_report(row) for row in found])

    # --- findings ---------------------------------------------------------------------------------------------

    async def delete_finding(self, ns: str, row: DeletedFinding) -> bool:
        """Remember, sealed, that a finding of a run was deleted."""
        await self.ring.ready([ns])
        return await self.inner.delete_finding(ns, self._rows.finding(ns, row))

    async def deleted_findings(self, ns: str, run_id: str) -> list[DeletedFinding]:
        """Return what was deleted of a run and of the runs it is a replay of."""
        found = await self.inner.deleted_findings(ns, run_id)
        opened = await self._opened(lambda: [self._rows.open_finding(ns, row) for row in found])
        return sorted(opened, key=lambda row: (row.run_id, row.id))

    # --- proposals --------------------------------------------------------------------------------------------

    async def put_proposal(
        self, row: ProposalRow, *, known: Sequence[ProposalState] = ("proposed",), most: int = 1000
    ) -> ProposalRow | None:
        """Keep a proposal, sealed but for what it is about."""
        await self.ring.ready([EVERYBODY])
        found = await self.inner.put_proposal(self._rows.proposal(row), known=known, most=most)
        return await self._opened(lambda: found and self._rows.open_proposal(found))

    async def get_proposal(self, ns: str, proposal: str) -> ProposalRow | None:
        """Return one proposal."""
        found = await self.inner.get_proposal(ns, proposal)
        return await self._opened(lambda: found and self._rows.open_proposal(found))

    async def list_proposals(self, where: ProposalFilter, *, after: str = "", limit: int = 100) -> list[ProposalRow]:
        """Return proposals, newest first."""
        found = await self.inner.list_proposals(where, after=after, limit=limit)
        return await self._opened(lambda: [self._rows.open_proposal(row) for row in found])

    async def settle_proposal(self, settled: Settled) -> bool:
        """Say what became of a proposal; who decided and why is sealed."""
        await self.ring.ready([EVERYBODY])
        return await self.inner.settle_proposal(self._rows.settled(settled))

    async def apply_proposal(self, move: TagMove, version: WorkflowRow, settled: Settled) -> bool:
        """Move a tag and settle a proposal, each sealed as by itself."""
        await self.ring.ready([EVERYBODY])
        rows = self._rows
        return await self.inner.apply_proposal(rows.tag_move(move), rows.workflow(version), rows.settled(settled))

    # --- plug-ins ---------------------------------------------------------------------------------------------

    async def put_optimizer(self, row: OptimizerRow, module: bytes) -> OptimizerRow:
        """Keep a plug-in, its module sealed; its digest says nothing that its name does not."""
        await self.ring.ready([EVERYBODY])
        found = await self.inner.put_optimizer(self._rows.optimizer(row), self._rows.module(row.ns, row.name, module))
        return await self._opened(lambda: self._rows.open_optimizer(found))

    async def optimizers(self, ns: str) -> list[OptimizerRow]:
        """Return the plug-ins of a namespace by name."""
        found = await self.inner.optimizers(ns)
        return await self._opened(lambda: [self._rows.open_optimizer(row) for row in found])

    async def optimizer_module(self, ns: str, name: str) -> bytes | None:
        """Return the bytes of a plug-in."""
        found = await self.inner.optimizer_module(ns, name)
        return await self._opened(lambda: None if found is None else self._rows.open_module(ns, name, found))

    async def note_optimizer(self, ns: str, name: str, digest: str, error: str, most: int) -> OptimizerRow | None:
        """Note what came of asking a plug-in; what went wrong is sealed."""
        await self.ring.ready([EVERYBODY])
        found = await self.inner.note_optimizer(ns, name, digest, error and self._rows.error(ns, name, error), most)
        return await self._opened(lambda: found and self._rows.open_optimizer(found))

    # --- starts -----------------------------------------------------------------------------------------------

    async def take_start(self, ns: str, caller: str, tier: str, id: str, limit: int) -> Turn:
        """Count a start; none of what is counted by says anything about a run."""
        return await self.inner.take_start(ns, caller, tier, id, limit)

    async def return_start(self, ns: str, caller: str, tier: str, id: str) -> None:
        """Count a start no longer."""
        await self.inner.return_start(ns, caller, tier, id)

    async def business_run(self, ns: str, key: str) -> str | None:
        """Return the unfinished run with a business key."""
        await self.ring.ready([ns])
        return await self.inner.business_run(ns, self._rows.business(ns, key) or "")

    # --- checkpoints ------------------------------------------------------------------------------------------

    async def put_checkpoints(self, ns: str, saved: Saved) -> None:
        """Store sealed checkpoints, values and writes."""
        await self.ring.ready([ns])
        await self.inner.put_checkpoints(ns, self._rows.saved(ns, saved))

    async def checkpoints(
        self, ns: str, *, thread: str | None = None, space: str | None = None, id: str = "", before: str = "",
        after: Place | None = None, limit: int = 100,
    ) -> Saved:  # fmt: skip
        """Return checkpoints with their values and writes."""
        found = await self.inner.checkpoints(
            ns, thread=thread, space=space, id=id, before=before, after=after, limit=limit
        )
        return await self._opened(lambda: self._rows.open_saved(ns, found))
