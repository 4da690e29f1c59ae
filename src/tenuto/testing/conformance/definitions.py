"""Versions of workflows, their tags, and the walls between namespaces."""

from __future__ import annotations

import asyncio

import msgspec

from tenuto.ports.lineage import TagMove
from tenuto.ports.store import Store, WorkflowRow
from tenuto.testing.conformance import kit


def _version(digest: str, name: str = "flow", ns: str = "default", created_at: int = 1) -> WorkflowRow:
    return WorkflowRow(ns=ns, name=name, digest=digest, body=b'{"v":"%s"}' % digest.encode(), created_at=created_at)


def _move(tag: str, digest: str, former: str = "", by: str = "") -> TagMove:
    return TagMove(ns="default", name="flow", tag=tag, digest=digest, former=former, kind="tag", by=by)


class DefinitionSuite:
    """Workflows and namespaces."""

    async def test_versions_are_stored_once_and_listed_newest_first(self, store: Store) -> None:
        """Storing again changes nothing, and no tag moves by itself."""
        await store.put_workflow(_version("d1", created_at=1))
        await store.put_workflow(_version("d2", created_at=2))
        await store.put_workflow(_version("d2", created_at=9))
        versions = await store.list_workflows("default", "flow")
        assert [(row.digest, row.created_at, row.tags) for row in versions] == [("d2", 2, ()), ("d1", 1, ())]
        assert await store.resolve_tag("default", "flow", "latest") is None
        assert await store.get_definition("default", "d1") == b'{"v":"d1"}'
        assert await store.get_definition("default", "none") is None

    async def test_tags_move_and_digests_name_themselves(self, store: Store) -> None:
        """A tag points where it was set last; a digest resolves only in its own workflow."""
        assert await store.move_tag(_move("prod", "d1"), _version("d1"))
        assert await store.resolve_tag("default", "flow", "prod") == "d1"
        assert await store.move_tag(_move("prod", "d2", "d1"), _version("d2", created_at=2))
        assert await store.move_tag(_move("latest", "d2"))
        assert await store.resolve_tag("default", "flow", "prod") == "d2"
        assert await store.resolve_tag("default", "flow", "d1") == "d1"
        assert await store.resolve_tag("default", "other", "d1") is None
        assert await store.resolve_tag("default", "flow", "none") is None
        (newest, _) = await store.list_workflows("default")
        assert newest.tags == ("latest", "prod")

    async def test_a_tag_moves_only_from_where_it_was_seen(self, store: Store, second_store: Store) -> None:
        """Of two that saw the same version the first wins; the other changes nothing and stores nothing."""
        assert await store.move_tag(_move("prod", "d1"), _version("d1"))
        assert not await second_store.move_tag(_move("prod", "d2"), _version("d2"))
        assert await store.move_tag(_move("prod", "d2", "d1"), _version("d2"))
        assert not await second_store.move_tag(_move("prod", "d3", "d1"), _version("d3"))
        assert await store.resolve_tag("default", "flow", "prod") == "d2"
        assert await store.get_definition("default", "d3") is None
        answers = await asyncio.gather(*(one.move_tag(_move("prod", "d1", "d2")) for one in (store, second_store)))
        assert sorted(answers) == [False, True]

    async def test_every_move_of_a_tag_is_remembered(self, store: Store) -> None:
        """In order, with who and why, and with the overlay that made the version."""
        await store.move_tag(_move("prod", "d1", by="ada"), _version("d1"))
        patch = TagMove(
            ns="default", name="flow", tag="prod", digest="d2", former="d1", kind="patch", by="grace", author="optimizer",
            reason="faster", ops=b"[1]", evidence=b"{}",
        )
        await store.move_tag(patch, _version("d2"))
        await store.move_tag(_move("latest", "d2"))
        first, second = await store.tag_moves("default", "flow", "prod")
        assert (first.n, first.by, first.kind, first.former) == (1, "ada", "tag", "")
        assert 0 < first.at <= second.at
        assert msgspec.structs.replace(second, n=0, at=0) == patch
        every = [(move.tag, move.n) for move in await store.tag_moves("default", "flow")]
        assert every == [("latest", 1), ("prod", 1), ("prod", 2)]
        assert await store.tag_moves("other", "flow") == []

    async def test_retired_versions_stay_readable(self, store: Store) -> None:
        """Retiring marks one version or all, counts what it changed, and removes nothing."""
        await store.put_workflow(_version("d1"))
        await store.put_workflow(_version("d2", created_at=2))
        await store.put_workflow(_version("d3", name="other"))
        assert await store.retire_workflow("default", "flow", "d1") == 1
        assert await store.retire_workflow("default", "flow", "none") == 0
        assert await store.retire_workflow("default", "flow", None) == 1
        retired = {row.digest: row.retired for row in await store.list_workflows("default")}
        assert retired == {"d1": True, "d2": True, "d3": False}
        assert await store.get_definition("default", "d1") is not None

    async def test_namespaces_do_not_see_each_other(self, store: Store) -> None:
        """Definitions, tags, runs, counts and tickets of one namespace do not show in another."""
        await store.put_workflow(_version("d1", ns="a"))
        run = await kit.created(store, "a", labels={"x": "1"})
        assert await store.get_definition("b", "d1") is None
        assert await store.resolve_tag("b", "flow", "latest") is None
        assert await store.list_workflows("b") == []
        assert await store.retire_workflow("b", "flow", None) == 0
        assert await store.list_runs(kit.everything("b")) == []
        assert await store.count_runs("b") == {}
        assert await store.delete_runs("b", run_id=run.id) == 0
        assert await store.tickets("b") == []
        assert [row.id for row in await store.list_runs(kit.everything("a"))] == [run.id]
