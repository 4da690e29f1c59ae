"""Results kept for others, as one worker sees them: looked up before an attempt begins, kept when it has ended.

An attempt that has to wait because another step computes the same holds no slot, no task and no connection; it is in a line
here. Whoever computes has a flight in the store, which lasts as long as this worker's lease, so a dead worker's flights are
free. There is one attempt of this worker in the air for each key; the others stand behind it. A flight of ours that ends
wakes our own line at once and the others' through the store; whoever was not woken looks again with the next poll.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Iterable

from msgspec import Raw

from tenuto.domain.base.canonical import digest
from tenuto.domain.base.values import digest_of, pack_bytes
from tenuto.domain.graph.caching import WORKS, Caching
from tenuto.domain.graph.plan import PlanNode, split_key
from tenuto.domain.graph.requirements import tools_of
from tenuto.domain.runs import inputs as io
from tenuto.domain.runs.events import Cached
from tenuto.domain.runs.memo import Bundle, Result, decode_bundle, encode_bundle, group_key_of, key_of
from tenuto.domain.runs.state import in_shadow
from tenuto.ports.cache import CacheEntries, CacheEntry, Place
from tenuto.runtime.worker.attempts import Attempt, Run
from tenuto.runtime.worker.background import Background
from tenuto.runtime.worker.lease import Lease
from tenuto.runtime.worker.lines import Asked, Growing, Line
from tenuto.runtime.worker.resources import Resources
from tenuto.runtime.worker.slots import Slots

log = logging.getLogger("tenuto.cache")
STALE = "something was invalidated while it was computed"
AGAIN_S = 1.0
_WHOLE = frozenset({"completed", "skipped"})
_ON_THE_WAY = frozenset({"ready", "running", "waiting", "retrying"})
_artifacts = re.compile(rb"sha256:[0-9a-f]{64}").findall


class Memo:
    """The cache of one worker. Everything happens on its event loop.

    Attributes:
        groups: Those that are computed here and are to be kept, by run.
    """

    def __init__(self, resources: Resources, lease: Lease, slots: Slots, background: Background) -> None:
        """Look up for the attempts of a worker."""
        self._resources = resources
        self._lease = lease
        self._slots = slots
        self._background = background
        self.groups: dict[str, list[Growing]] = {}
        self._entered: list[Attempt] = []
        self._lines: dict[Place, Line] = {}
        self._wake = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._codes: dict[str, str] = {}
        self._closed = False

    @property
    def _entries(self) -> CacheEntries:
        return self._resources.cache

    def enter(self, attempt: Attempt) -> None:
        """Look for the result of an attempt; let its code run only if it has to."""
        if not self._resources.options.cache.enabled:
            self._slots.enter(attempt)
            return
        self._entered.append(attempt)
        self.poke()
        if self._serving is None or self._serving.done():
            self._serving = self._background.spawn(self._serve())

    def close(self) -> None:
        """Let nobody compute any more: the worker shuts down, and what waits is given back with its runs."""
        self._closed = True

    def poke(self) -> None:
        """Look again: something may have been kept, or given up, elsewhere."""
        self._wake.set()

    async def _serve(self) -> None:
        """Serve until nobody waits any more."""
        while not self._closed and (self._entered or self._lines):
            self._wake.clear()
            entered, self._entered = self._entered, []
            try:
                await self._look(await self._prepared(entered))
            except Exception:
                # The cache may fail; steps do not fail with it.
                log.exception("the cache failed; what waited for it is computed")
                self._give_up(entered)
            if not self._entered and self._lines:
                await self._wake.wait()

    def _give_up(self, entered: Iterable[Attempt]) -> None:
        for attempt in entered:
            self._go(attempt, None)
        for place, line in list(self._lines.items()):
            if line.flying is None:
                del self._lines[place]
                for attempt in line.waiting:
                    self._go(attempt, None)

    # --- looking up -------------------------------------------------------------------------------------------

    async def _prepared(self, entered: list[Attempt]) -> list[tuple[Attempt, Asked]]:
        """Return what attempts want; those whose key cannot be made compute."""
        found: list[tuple[Attempt, Asked]] = []
        for attempt in entered:
            if _gone(attempt):
                continue
            try:
                asked = await self._asked(attempt)
                if asked is None:
                    self._go(attempt, None)
                else:
                    found.append((attempt, asked))
            except Exception as exc:
                # Whatever is wrong with its input, the attempt itself says better.
                log.debug("step %s is not looked up: %s", attempt.key, exc, extra={"run": attempt.st.id})
                self._go(attempt, None)
        return found

    async def _asked(self, attempt: Attempt) -> Asked | None:
        policy, actor = attempt.node.memo, attempt.actor
        assert policy is not None
        while True:
            try:
                key = self._key(attempt, policy)
                break
            except io.NeedValues as need:
                await attempt.need(need)
        if key is None:
            return None
        fresh = actor.st.steps[attempt.key].group > 0
        return Asked(
            (actor.st.ns, key), policy, reads=policy.reads and not fresh, writes=policy.writes and not in_shadow(actor.st)
        )

    def _key(self, attempt: Attempt, policy: Caching) -> str | None:
        st, plan, env = attempt.actor.st, attempt.actor.plan, attempt.actor.env
        if not policy.group:
            return key_of(st, plan, env, attempt.key, self._code(attempt.node))
        group = plan.groups[policy.group]
        return group_key_of(st, plan, env, attempt.key, group, {name: self._code(plan.nodes[name]) for name in group.members})

    def _code(self, of: PlanNode) -> dict[str, str]:
        """Return what identifies the code that would compute a result."""
        node, catalog = of.node, self._resources.catalog
        found: dict[str, str] = {}
        if node.kind == "function" and "handler" in node.config:
            handler = catalog.handler(node.config["handler"])
            found["handler"] = handler.version if handler is not None else ""
        for name in tools_of(node):
            tool = catalog.tool(name)
            found[f"tool:{name}"] = "" if tool is None else self._known(f"{tool.version}\n{tool.description}\n{tool.schema}")
        if node.kind == "agent" and not node.config.get("model"):
            found["routing"] = self._known(repr(self._resources.options.routing))
        return found

    def _known(self, text: str) -> str:
        known = self._codes.get(text)
        if known is None:
            known = self._codes[text] = digest(text)
        return known

    async def _look(self, fresh: list[tuple[Attempt, Asked]]) -> None:
        """Serve those who came in, and those who wait behind a flight of somebody else."""
        alone: list[tuple[Attempt, Asked]] = []
        places: dict[Place, None] = {}
        for attempt, asked in fresh:
            attempt.asked = asked
            if asked.reads and asked.writes:
                self._lines.setdefault(asked.place, Line()).waiting.append(attempt)
            else:
                alone.append((attempt, asked))
                places[asked.place] = None
        for place, line in list(self._lines.items()):
            self._thin(place, line)
            if place in self._lines and line.flying is None:
                places[place] = None
        stamps, found = await self._get(places)
        for attempt, asked in alone:
            asked.stamp = stamps[asked.place[0]]
            bundle = found.get(asked.place) if asked.reads else None
            if bundle is None:
                self._go(attempt, asked)
            else:
                self._recall(attempt, asked, _kept(bundle))
        await self._fly([place for place in places if place in self._lines], found)

    async def _fly(self, places: list[Place], found: dict[Place, Bundle]) -> None:
        """Give lines what was found, and let the first of each other one compute, if nobody elsewhere does."""
        missing: list[Place] = []
        for place in places:
            line = self._lines[place]
            if place in found:
                self._serve_line(place, found[place])
            elif line.flying is None:
                missing.append(place)
        again = [place for place in missing if any(one.asked and one.asked.looked for one in self._lines[place].waiting)]
        busy = await self._resources.store.busy_flights(again) if again else set[Place]()
        for place in missing:
            for attempt in self._lines[place].waiting:
                if attempt.asked is not None:
                    attempt.asked.looked = True
        wanted = [place for place in missing if place not in busy]
        if not wanted or self._closed:
            return
        worker = self._lease.id
        try:
            taken = await self._resources.store.take_flights(worker, wanted)
            # Whoever had a flight before us has kept the result before ending it, so now is the time to look again.
            stamps, late = await self._get(dict.fromkeys(taken))
        except Exception:
            # Nobody is in the air, and others would wait for a flight that we may have got.
            self._background.spawn(self._give_back(worker, wanted))
            raise
        over: list[Place] = []
        for place in taken:
            line = self._lines.get(place)
            if line is not None and place in late:
                self._serve_line(place, late[place])
            if line is None or place in late or not self._depart(place, line, worker, stamps[place[0]]):
                over.append(place)
        if over:
            self._background.spawn(self._give_back(worker, over))

    def _thin(self, place: Place, line: Line) -> None:
        """Forget those who want nothing any more: cancelled, evicted, or of a run that is somebody else's."""
        line.waiting = deque(attempt for attempt in line.waiting if not _gone(attempt))
        if not line.waiting and line.flying is None:
            self._lines.pop(place, None)

    def _depart(self, place: Place, line: Line, worker: str, stamp: str) -> bool:
        """Let the first of a line compute under our flight; return whether there was one."""
        self._thin(place, line)
        if not line.waiting:
            return False
        attempt = line.flying = line.waiting.popleft()
        asked = attempt.asked
        assert asked is not None
        asked.flight, asked.stamp = worker, stamp
        self._go(attempt, asked)
        return True

    async def _get(self, places: Iterable[Place]) -> tuple[dict[str, str], dict[Place, Bundle]]:
        """Return a stamp for each namespace, and what is kept under some keys and still whole."""
        keys: dict[str, list[str]] = {}
        for ns, key in places:
            keys.setdefault(ns, []).append(key)
        stamps: dict[str, str] = {}
        found: dict[Place, Bundle] = {}
        for ns, wanted in keys.items():
            stamps[ns], entries = await self._entries.cache_get(ns, wanted)
            for key, entry in entries.items():
                bundle = await self._opened(entry)
                if bundle is not None:
                    found[ns, key] = bundle
        return stamps, found

    async def _opened(self, entry: CacheEntry) -> Bundle | None:
        """Return what an entry holds; `None` when it cannot be read or speaks of artifacts that are gone."""
        try:
            bundle = decode_bundle(entry.body)
            for name in bundle.artifacts:
                if await self._resources.store.renew_artifact(entry.ns, name) is None:
                    return None
        except Exception as exc:
            log.warning("a kept result of node %r is not used: %s", entry.node, exc)
            return None
        return bundle

    # --- what follows -----------------------------------------------------------------------------------------

    def _go(self, attempt: Attempt, asked: Asked | None) -> None:
        """Let the code of an attempt run, once."""
        if attempt.let_go or _gone(attempt):
            return
        attempt.asked, attempt.let_go = asked, True
        self._slots.enter(attempt)

    def _serve_line(self, place: Place, bundle: Bundle) -> None:
        """Give those who wait a result; what is in the air stays there, for it has a flight to give back."""
        line = self._lines.get(place)
        if line is None:
            return
        waiting, line.waiting, kept = line.waiting, deque[Attempt](), _kept(bundle)
        if line.flying is None:
            del self._lines[place]
        for attempt in waiting:
            if attempt.asked is not None:
                self._recall(attempt, attempt.asked, kept)

    def _recall(self, attempt: Attempt, asked: Asked, kept: dict[str, io.Kept]) -> None:
        """Let what is kept be the outcome of an attempt, without its code."""
        if not _gone(attempt):
            named = {name or attempt.node.id: result for name, result in kept.items()}
            group = asked.policy.group
            attempt.answered(io.Recalled(attempt.key, attempt.n, asked.place[1], named, group=group, joined=asked.looked))

    async def keep(self, attempt: Attempt, out: Raw, blob: bytes | None, took_ms: int) -> Cached | None:
        """Keep what an attempt computed, if its policy says so, and give it to those who wait for it here."""
        asked = attempt.asked
        if asked is None:
            return None
        how = "miss" if asked.reads else "unread"
        if not asked.writes:
            return Cached(key=asked.place[1], how=how, group=asked.policy.group)
        if asked.policy.group:
            self._grow(attempt, asked)
            return Cached(key=asked.place[1], how=how, group=asked.policy.group)
        bundle = Bundle({"": Result(Raw(blob) if blob is not None else out, took_ms, attempt.cost_usd_micros)})
        stored, why = await self._put(attempt.st.workflow, attempt.node.id, asked, bundle)
        self._deliver(attempt, asked, bundle, why)
        return Cached(key=asked.place[1], how=how, stored=stored, why=why)

    def _deliver(self, flying: Attempt | Growing, asked: Asked, bundle: Bundle, why: str) -> None:
        """Give what was computed to those who wait for it here, unless something was invalidated meanwhile."""
        line = self._lines.get(asked.place)
        if why != STALE and line is not None and line.flying is flying:
            # Also what is too large to keep, or finds the cache away, is a result: those who wait here need no other.
            line.flying = None
            self._serve_line(asked.place, bundle)
            self._land(asked)

    async def _put(self, workflow: str, node: str, asked: Asked, bundle: Bundle) -> tuple[bool, str]:
        """Put results in the cache; return whether they are kept, and why not."""
        options, (ns, key) = self._resources.options.cache, asked.place
        try:
            body = encode_bundle(bundle)
            names = [name.decode() for name in dict.fromkeys(_artifacts(body))]
            artifacts = tuple([name for name in names if await self._resources.store.artifact(ns, name) is not None])
            if artifacts:
                body = encode_bundle(Bundle(bundle.results, artifacts))
            most = asked.policy.max_bytes or options.max_bytes
            if len(body) > most:
                stamp, _ = await self._entries.cache_get(ns, [])
                if stamp != asked.stamp:
                    return False, STALE
                return False, f"it has {len(body):,} bytes; at most {most:,} are kept"
            ttl = options.ttl_s if asked.policy.ttl_s is None else asked.policy.ttl_s
            entry = CacheEntry(
                ns=ns, key=key, workflow=workflow, node=node, body=body, size=len(body), names=artifacts,
                took_ms=sum(result.ms for result in bundle.results.values()),
                cost_usd_micros=sum(result.usd_micros for result in bundle.results.values()),
            )
            stored = await self._entries.cache_put(entry, asked.stamp, round(ttl * 1000), options.bounds)
        except Exception as exc:
            log.warning("a result of node %r is not kept: %s", node, exc)
            return False, "the cache failed"
        return stored, "" if stored else STALE

    def ended(self, attempt: Attempt) -> None:
        """Hear that an attempt is over, however it ended; if it was in the air, the next one takes its place."""
        asked, attempt.asked = attempt.asked, None
        if asked is not None:
            self._crash(attempt, asked)

    def _crash(self, flying: Attempt | Growing, asked: Asked) -> None:
        """Let the next one of a line try, where what was in the air brought nothing."""
        line = self._lines.get(asked.place)
        if asked.flight and line is not None and line.flying is flying:
            line.flying = None
            self._land(asked)

    # --- groups -----------------------------------------------------------------------------------------------

    def _grow(self, attempt: Attempt, asked: Asked) -> None:
        """Follow a group from its head on; its flight goes on, and ends with the run's stay here at the latest."""
        actor = attempt.actor
        attempt.asked = None
        growing = Growing(
            actor, actor.plan, actor.plan.groups[asked.policy.group], split_key(attempt.key)[1], asked,
            {attempt.node.id: attempt.cost_usd_micros},
        )  # fmt: skip
        line = self._lines.get(asked.place)
        if line is not None and line.flying is attempt:
            line.flying = growing
        self.groups.setdefault(actor.st.id, []).append(growing)

    def paid(self, attempt: Attempt) -> None:
        """Hear what a member of a group has cost."""
        for growing in self.groups.get(attempt.st.id, ()):
            if growing.group.name == attempt.node.group and attempt.key.endswith(growing.scope):
                growing.spent[attempt.node.id] = attempt.cost_usd_micros

    def moved(self, run: str) -> None:
        """Look at the groups of a run after a record: one that is whole is kept, one that cannot become whole is not."""
        for growing in list(self.groups[run]):
            steps = [growing.actor.st.steps.get(name + growing.scope) for name in growing.group.members]
            statuses = {step.status if step is not None else "ready" for step in steps}
            if growing.actor.plan is not growing.plan or _retold(growing) or not statuses <= _WHOLE | _ON_THE_WAY:
                self._drop(growing)
                self._crash(growing, growing.asked)
            elif statuses <= _WHOLE:
                self._drop(growing)
                self._background.spawn(self._keep_group(growing, _outcomes(growing)))

    def left(self, actor: Run) -> None:
        """Hear that a run has left this worker; what was not whole by then is not kept."""
        for growing in self.groups.pop(actor.st.id, ()):
            self._crash(growing, growing.asked)

    def _drop(self, growing: Growing) -> None:
        held = self.groups[growing.actor.st.id]
        held.remove(growing)
        if not held:
            del self.groups[growing.actor.st.id]

    async def _keep_group(self, growing: Growing, outcomes: dict[str, tuple[Raw, int]]) -> None:
        asked, resources = growing.asked, self._resources
        try:
            needed = tuple(name for out, _ in outcomes.values() if (name := digest_of(out)) is not None)
            stored = await resources.store.get_blobs(needed) if needed else {}
            results = {
                name: Result(Raw(stored[digest_of(out) or ""]) if digest_of(out) else out, ms, growing.spent.get(name, 0))
                for name, (out, ms) in outcomes.items()
            }
            bundle = Bundle(results)
            _, why = await self._put(growing.actor.st.workflow, growing.group.head, asked, bundle)
        except Exception:
            log.exception("the results of group %r are not kept", growing.group.name)
        else:
            self._deliver(growing, asked, bundle, why)
        self._crash(growing, asked)

    def _land(self, asked: Asked) -> None:
        worker, asked.flight = asked.flight, ""
        self._background.spawn(self._give_back(worker, [asked.place]))

    async def _give_back(self, worker: str, places: list[Place]) -> None:
        """Give flights back, so that whoever waits, here or elsewhere, looks again; a store that fails is asked until it does.

        Others would wait for one that is not given back as long as this worker lives.
        """
        while self._lease.id == worker:
            try:
                await self._resources.store.end_flights(worker, places)
            except Exception:
                log.warning("flights cannot be given back; trying again in %g s", AGAIN_S, exc_info=True)
                await asyncio.sleep(AGAIN_S)
            else:
                break
        self.poke()


def _gone(attempt: Attempt) -> bool:
    """Say whether an attempt wants nothing any more: cancelled, evicted, replaced, or of a run that is somebody else's."""
    return attempt.over or attempt.actor.attempts.get(attempt.key) is not attempt


def _retold(growing: Growing) -> bool:
    """Say whether a person told a member something that the group's key, made when its head began, knows nothing of."""
    others = [name for name in growing.group.members if name != growing.group.head]
    steps = [growing.actor.st.steps.get(name + growing.scope) for name in others]
    return any(step is not None and (step.config or step.guidance) for step in steps)


def _outcomes(growing: Growing) -> dict[str, tuple[Raw, int]]:
    """Return the outputs of a whole group's members that work, and what each took."""
    found: dict[str, tuple[Raw, int]] = {}
    for name in growing.group.members:
        step = growing.actor.st.steps[name + growing.scope]
        if step.status == "completed" and step.out is not None and growing.plan.nodes[name].node.kind in WORKS:
            found[name] = (step.out, step.took_ms)
    return found


def _kept(bundle: Bundle) -> dict[str, io.Kept]:
    """Return results as outcomes, made once for everybody who waits for them."""
    found: dict[str, io.Kept] = {}
    for name, result in bundle.results.items():
        out, blob = pack_bytes(bytes(result.value))
        found[name] = io.Kept(out, blob, result.ms, result.usd_micros)
    return found
