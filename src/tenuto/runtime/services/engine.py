"""The facade over all use cases, grouped by what they concern; HTTP and Python callers use the same one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tenuto.domain.overlays.terms import Terms
from tenuto.ports.cache import CacheEntries
from tenuto.ports.knowledge import Knowledge
from tenuto.ports.store import Store
from tenuto.runtime.artifacts import Shelf
from tenuto.runtime.bus import Bus
from tenuto.runtime.definitions import Definitions
from tenuto.runtime.optimizer.panel import Panel
from tenuto.runtime.services.artifacts import Artifacts
from tenuto.runtime.services.audit import Audit
from tenuto.runtime.services.budgets import Budgets
from tenuto.runtime.services.cache import Cache
from tenuto.runtime.services.context import Context, Creator
from tenuto.runtime.services.dead_letters import DeadLetters
from tenuto.runtime.services.feed import Feed
from tenuto.runtime.services.findings import Findings
from tenuto.runtime.services.gains import Gains
from tenuto.runtime.services.history import History
from tenuto.runtime.services.knowledge import KnowledgeBases
from tenuto.runtime.services.notifications import Notifications
from tenuto.runtime.services.optimizers import Optimizers
from tenuto.runtime.services.outside import Outside
from tenuto.runtime.services.patches import Patches
from tenuto.runtime.services.plugins import Plugins
from tenuto.runtime.services.proposals import Proposals
from tenuto.runtime.services.readers import Steps, Workers
from tenuto.runtime.services.runs import Runs
from tenuto.runtime.services.tickets import Tickets
from tenuto.runtime.services.usage import Usage
from tenuto.runtime.services.versions import Versions
from tenuto.runtime.services.workflows import Workflows
from tenuto.runtime.tools.catalog import Catalog
from tenuto.runtime.tools.workspace import Workspaces


class Engine:
    """Grouped clients over one store.

    Attributes:
        history: Events, states, graphs and streams of runs.
        metrics: Returns what this process counts as text, and the type of that text; `None` when it counts nothing.
    """

    def __init__(
        self, store: Store, committer: Creator, definitions: Definitions | None = None, catalog: Catalog | None = None,
        *, bus: Bus | None = None, clock: Callable[[], int] | None = None, ns: str = "default",
        feed: Feed | None = None, knowledge: Knowledge | None = None, workspaces: Workspaces | None = None,
        shelf: Shelf | None = None,
        terms: Terms | None = None, groups: Mapping[str, Sequence[str]] | None = None,
        panel: Panel | None = None,
        cache: CacheEntries | None = None,
    ) -> None:
        """Build the clients.

        Args:
            catalog: What nodes may name (handlers, tools, predicates); `None` accepts any name.
            bus: Where this process's workers announce committed records; `None` follows the store alone.
            clock: Milliseconds by the store's clock; `None` uses this machine's.
            feed: Shared by engines of several namespaces; `None` makes one.
            knowledge: The knowledge bases of this installation; `None` has none.
            workspaces: Where runs have files on this machine; `None` knows of none.
            shelf: Its artifacts; `None` keeps none.
            terms: On what terms graphs may be patched; `None` is the shipped ones.
            groups: Names of the people in each group that may decide; `None` knows of none.
            panel: The optimizers that can be asked; `None` has none.
            cache: Where results of steps are kept; `None` is the store.
        """
        bus = bus or Bus()
        self.context = Context(
            store, committer, definitions or Definitions(store), catalog, bus, clock or _machine_clock,
            feed or Feed(store, bus), shelf or Shelf(store), ns, terms or Terms(), groups or {},
            panel or Panel(), cache,
        )
        self.workflows = Workflows(self.context)
        self.gains = Gains(self.context, self.workflows)
        self.versions = Versions(self.context, self.workflows, self.gains)
        self.proposals = Proposals(self.context, self.workflows, self.gains)
        self.runs = Runs(self.context, self.workflows, workspaces)
        self.history = History(self.context)
        self.tickets = Tickets(self.context)
        self.notifications = Notifications(self.context)
        self.patches = Patches(self.context, self.tickets, self.history)
        self.optimizers = Optimizers(self.context, self.workflows, self.proposals, self.patches, self.gains)
        self.plugins = Plugins(self.context)
        self.dead_letters = DeadLetters(self.context, self.runs)
        self.artifacts = Artifacts(self.context)
        self.cache = Cache(self.context)
        self.steps = Steps(self.context)
        self.findings = Findings(self.context)
        self.workers = Workers(self.context)
        self.usage = Usage(self.context)
        self.budgets = Budgets(self.context)
        self.audit = Audit(self.context)
        self.knowledge = KnowledgeBases(knowledge, ns)
        self.outside = Outside(self.context)
        self.metrics: Callable[[], Awaitable[tuple[bytes, str]]] | None = None

    @property
    def store(self) -> Store:
        """Return the store, for health and statistics."""
        return self.context.store

    def within(self, ns: str) -> Engine:
        """Return the same engine, bound to another namespace."""
        c = self.context
        found = Engine(
            c.store, c.committer, c.definitions, c.catalog, bus=c.bus, clock=c.clock, ns=ns, feed=c.feed,
            knowledge=self.knowledge.port, workspaces=self.runs.workspaces, terms=c.terms,
            shelf=c.shelf, groups=c.groups, panel=c.panel, cache=c.cache,
        )
        found.outside.watch = self.outside.watch
        return found


def _machine_clock() -> int:
    return time.time_ns() // 1_000_000
