"""Changes of workflows for the runs to come that wait until somebody decides, or are applied at once where policy says so."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.base.nearest import did_you_mean
from tenuto.domain.graph.plan import Plan
from tenuto.domain.overlays.overlay import overlay_of
from tenuto.domain.runs.patches import Verdict
from tenuto.domain.runs.views import instant
from tenuto.errors import Conflict, Denied, Invalid, ProposalMissing
from tenuto.ports.lineage import TagMove
from tenuto.ports.proposals import ProposalFilter, ProposalRow, ProposalState, Settled
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.documents import version_row
from tenuto.runtime.services.gains import Gains
from tenuto.runtime.services.patch_views import ChangedView
from tenuto.runtime.services.proposal_views import ProposalView
from tenuto.runtime.services.proposed import Answer, Body, answer_of, saving
from tenuto.runtime.services.requests import ProposePatch
from tenuto.runtime.services.results import Page, ProblemView
from tenuto.runtime.services.verdicts import difference_by, judged, problem_views, refusal
from tenuto.runtime.services.workflows import Workflows

DECISIONS = ("approve", "reject")
STATES = ("proposed", "applied", "rejected", "stale", "superseded", "refused")
POLICY = "policy"
"""Who applies what nobody has to approve."""
_DECIDED: tuple[ProposalState, ...] = ("applied", "rejected", "refused")
_AT_ONCE = 200


class Proposals:
    """Every use case of proposals, for one namespace."""

    def __init__(self, context: Context, workflows: Workflows, gains: Gains) -> None:
        """Use the collaborators of an engine."""
        self._c = context
        self._workflows = workflows
        self._gains = gains

    async def propose(self, name: str, asked: ProposePatch) -> ProposalView:
        """Propose a change of a workflow; it is applied at once where nobody has to approve it.

        The same change of the same version waits only once. One by an optimizer that was decided before is not
        proposed again: what was decided is returned.

        Raises:
            WorkflowMissing: There is no such version.
            InvalidPatch: It cannot be applied, with every problem; nothing is stored.
            Conflict: The tag does not point at the version it is made for, or as many proposals wait as may.
        """
        digest = await self._workflows.digest_of(name, asked.base)
        plan = await self._c.definitions.plan(self._c.ns, digest)
        if await self._c.store.resolve_tag(self._c.ns, name, asked.tag) != digest or asked.tag == digest:
            raise Conflict(
                f"tag {asked.tag!r} of workflow {name!r} does not point at {digest}; propose the change on the version it "
                "points at", code="proposal.stale", workflow=name,
            )
        verdict = await judged(self._c, plan, asked.operations, asked.author)
        if verdict.plan is None:
            raise refusal(name, verdict)
        return await self.keep(name, asked, plan, verdict)

    async def keep(self, name: str, asked: ProposePatch, plan: Plan, verdict: Verdict) -> ProposalView:
        """Keep a change that was looked at and found possible, and apply it where nobody has to approve it.

        Raises:
            Conflict: As many proposals of the workflow wait as may.
        """
        assert verdict.plan is not None
        body = Body(
            by=asked.by, title=asked.title, reason=asked.reason, asks=verdict.asks, ops=asked.operations,
            changed=msgspec.convert(msgspec.to_builtins(verdict.changed), ChangedView), gain=asked.gain,
            evidence=asked.evidence,
        )
        row = ProposalRow(
            id=f"pp-{secrets.token_hex(6)}", ns=self._c.ns, workflow=name, tag=asked.tag, base=plan.digest,
            digest=verdict.plan.digest, author=asked.author, optimizer=asked.optimizer, rule=asked.rule,
            body=msgspec.json.encode(body),
        )
        most = self._c.terms.max_proposals
        known = _DECIDED if asked.author == "optimizer" else ()
        kept = await self._c.store.put_proposal(row, known=known, most=most)
        if kept is None:
            raise Conflict(
                f"{most} proposals of workflow {name!r} wait for a decision, as many as may (patches.max_proposals); decide "
                "some of them first", code="proposal.limit", workflow=name,
            )
        if kept.id != row.id:
            return msgspec.structs.replace(await self._shown(kept), replayed=True)
        await self._supersede(kept)
        if verdict.asks:
            return await self._shown(kept)
        return await self.decide(kept.id, "approve", by=POLICY)

    async def list(
        self, name: str | None = None, *, states: Sequence[str] = (), tag: str | None = None, after: str = "", limit: int = 100
    ) -> Page[ProposalView]:
        """Return proposals, newest first.

        Raises:
            WorkflowMissing: There is no such workflow.
        """
        if name is not None:
            await self._workflows.require(name)
        # What waits in the store may be stale by where its tag points, so both are read for either.
        stored = {"proposed" if state == "stale" else state for state in states} | (set(states) & {"stale"})
        where = ProposalFilter(ns=self._c.ns, workflow=name, tag=tag, states=tuple(sorted(stored)))  # type: ignore[arg-type]
        rows = await self._c.store.list_proposals(where, after=after, limit=limit + 1)
        views = [await self._shown(row) for row in rows[:limit]]
        items = [view for view in views if not states or view.status in states]
        return Page(items=items, next=rows[limit - 1].cursor if len(rows) > limit else None)

    async def get(self, proposal: str) -> ProposalView:
        """Return one proposal with its operations, the difference it makes, and what it saved.

        Raises:
            ProposalMissing: There is none; names the nearest.
        """
        row = await self.row(proposal)
        view = await self._shown(row)
        view.operations = msgspec.json.decode(row.body, type=Body).ops
        base = await self._c.definitions.plan(self._c.ns, row.base)
        view.difference = difference_by(base.definition, view.operations)
        view.gain = await self._gains.of(row)
        return view

    async def row(self, proposal: str) -> ProposalRow:
        """Return what is kept of a proposal.

        Raises:
            ProposalMissing: There is none; names the nearest.
        """
        found = await self._c.store.get_proposal(self._c.ns, proposal)
        if found is None:
            recent = await self._c.store.list_proposals(ProposalFilter(ns=self._c.ns), limit=_AT_ONCE)
            hint = did_you_mean(proposal, [row.id for row in recent])
            raise ProposalMissing(f"there is no proposal {proposal!r}{hint}", proposal=proposal)
        return found

    async def decide(
        self, proposal: str, decision: str, *, reason: str = "", by: str = "", digest: str = ""
    ) -> ProposalView:
        """Approve a proposal, and its tag moves; or turn it down. Whoever repeats a decision is told what came of it.

        Args:
            digest: Of the version it leads to, as it was shown to the person; empty decides whatever it leads to.

        Raises:
            ProposalMissing: There is none.
            Invalid: The decision does not exist, or a rejection has no reason.
            Denied: It would be approved by who proposed it, or by nobody in particular.
            Conflict: It was decided before, leads elsewhere than was shown, or its tag points elsewhere by now.
            InvalidPatch: It can no longer be applied; it is `refused` from now on.
        """
        if decision not in DECISIONS:
            raise Invalid(f"{decision!r} does not decide a proposal{did_you_mean(decision, DECISIONS)}; allowed: "
                          f"{', '.join(DECISIONS)}", code="proposal.decision")
        if decision == "reject" and not reason.strip():
            raise Invalid("a rejection needs a reason", code="proposal.reason")
        while True:
            row = await self.row(proposal)
            if row.state != "proposed":
                return await self._decided(row, decision, reason, by)
            if digest and digest != row.digest:
                raise Conflict(f"proposal {row.id} leads to {row.digest}, not to {digest}; look at it again, then decide",
                               code="proposal.shown", proposal=row.id)
            body = msgspec.json.decode(row.body, type=Body)
            needs_another = decision == "approve" and row.author != "optimizer" and bool(body.asks and body.by)
            if needs_another and not by:
                raise Denied(f"proposal {row.id}: somebody other than {body.by!r} has to approve it; say who approves",
                             code="proposal.own", proposal=row.id)
            if needs_another and by == body.by:
                raise Denied(f"proposal {row.id}: whoever proposed it cannot approve it", code="proposal.own", proposal=row.id)
            answer = Answer(decision=decision, by=by, reason=reason)
            settled = await (self._apply(row, body, answer) if decision == "approve" else self._settle(row, "rejected", answer))
            if settled:
                return await self.get(row.id)

    async def _decided(self, row: ProposalRow, decision: str, reason: str, by: str) -> ProposalView:
        """Return what was decided to whoever decides the same again."""
        answer = answer_of(row)
        if (answer.decision, answer.reason, answer.by) == (decision, reason, by) and row.state in ("applied", "rejected"):
            return msgspec.structs.replace(await self.get(row.id), replayed=True)
        who = f" by {answer.by}" if answer.by else ""
        raise Conflict(
            f"proposal {row.id} is {row.state} already{who}", code="proposal.decided", proposal=row.id, status=row.state
        )

    async def _apply(self, row: ProposalRow, body: Body, answer: Answer) -> bool:
        """Move the tag; `False` when somebody else did something meanwhile.

        Raises:
            Conflict: The tag points elsewhere, or the version is retired.
            InvalidPatch: It can no longer be applied.
        """
        if await self._c.store.resolve_tag(self._c.ns, row.workflow, row.tag) != row.base:
            if not await self._settle(row, "stale", answer):
                return False
            raise Conflict(_stale_note(row), code="proposal.stale", proposal=row.id)
        if (await self._workflows.version(row.workflow, row.base)).retired:
            why = f"version {row.base} of workflow {row.workflow!r} is retired, and a change of it would be startable again"
            found = [ProblemView(place="", message=why, hint="publish a version that is to be started", code="proposal.retired")]
            if not await self._settle(row, "refused", msgspec.structs.replace(answer, findings=found)):
                return False
            raise Conflict(f"proposal {row.id} is refused: {why}; publish a version that is to be started",
                           code="proposal.retired", proposal=row.id)
        plan = await self._c.definitions.plan(self._c.ns, row.base)
        verdict = await judged(self._c, plan, body.ops, row.author)
        if verdict.plan is None:
            if not await self._settle(row, "refused", msgspec.structs.replace(answer, findings=problem_views(verdict))):
                return False
            raise refusal(row.workflow, verdict)
        if verdict.plan.digest != row.digest:
            if not await self._settle(row, "stale", answer):
                return False
            raise Conflict(f"proposal {row.id} leads elsewhere by now, because what handlers declare has changed; propose it "
                           "anew", code="proposal.stale", proposal=row.id)
        made = verdict.plan.definition
        evidence = {**body.evidence, "proposal": row.id, "decided_by": answer.by}
        move = TagMove(
            ns=self._c.ns, name=row.workflow, tag=row.tag, digest=row.digest, former=row.base, kind="patch", by=body.by,
            author=row.author, reason=body.reason or body.title, ops=msgspec.json.encode(overlay_of(plan.definition, made)),
            evidence=canonical_json(evidence),
        )
        settled = Settled(ns=self._c.ns, id=row.id, state="applied", answer=msgspec.json.encode(answer))
        done = await self._c.store.apply_proposal(move, version_row(self._c.ns, made, self._c.clock()), settled)
        if done:
            self._c.definitions.keep(row.digest, made)
            self._workflows.forget()
        return done

    async def _settle(self, row: ProposalRow, state: ProposalState, answer: Answer) -> bool:
        settled = Settled(ns=self._c.ns, id=row.id, state=state, answer=msgspec.json.encode(answer))
        return await self._c.store.settle_proposal(settled)

    async def _supersede(self, newer: ProposalRow) -> None:
        """Let what an optimizer proposed for a former version by the same rule wait no longer."""
        if newer.author != "optimizer":
            return
        where = ProposalFilter(ns=self._c.ns, workflow=newer.workflow, tag=newer.tag, author="optimizer", states=("proposed",))
        for row in await self._c.store.list_proposals(where, limit=self._c.terms.max_proposals):
            if (row.optimizer, row.rule) == (newer.optimizer, newer.rule) and row.base != newer.base:
                await self._settle(row, "superseded", Answer(by=POLICY, reason=f"proposal {newer.id} took its place"))

    async def _shown(self, row: ProposalRow) -> ProposalView:
        body, answer = msgspec.json.decode(row.body, type=Body), answer_of(row)
        view = ProposalView(
            id=row.id, workflow=row.workflow, tag=row.tag, status=row.state, author=row.author, by=body.by,
            optimizer=row.optimizer, rule=row.rule, title=body.title, reason=body.reason, base_digest=row.base,
            digest=row.digest, asks=body.asks, changed=body.changed, evidence=body.evidence, findings=answer.findings,
            expected=saving(body.gain), at=instant(row.at), decided_at=instant(row.decided_at), decided_by=answer.by,
            decision_reason=answer.reason,
        )
        if row.state == "proposed" and await self._c.store.resolve_tag(self._c.ns, row.workflow, row.tag) != row.base:
            view.status = "stale"
        if view.status == "stale":
            view.note = _stale_note(row)
        return view


def _stale_note(row: ProposalRow) -> str:
    return f"tag {row.tag!r} of workflow {row.workflow!r} does not point at {row.base} any more; propose it anew"
