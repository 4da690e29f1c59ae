"""Versions of workflows, their tags, and the walls between namespaces."""

from __future__ import annotations

from tenuto.ports.store import Store, WorkflowRow
from tenuto.testing.conformance import kit


def _version(digest: str, name: str = "flow", ns: str = "default", created_at: int = 1) -> WorkflowRow:
    return WorkflowRow(ns=ns, name=name, digest=digest, body=b'{"v":"%s"}' % digest.encode(), created_at=created_at)


class DefinitionSuite:
    """Workflows and namespaces."""

    async def test_the_newest_version_is_latest(self, store: Store) -> None:
        """Storing moves `latest`, storing again changes nothing else, versions are listed newest first."""
        await store.put_workflow(_version("d1", created_at=1))
        await store.put_workflow(_version("d2", created_at=2))
        await store.put_workflow(_version("d2", created_at=9))
        assert await store.resolve_tag("default", "flow", "latest") == "d2"
        versions = await store.list_workflows("default", "flow")
        assert [(row.digest, row.created_at, row.tags) for row in versions] == [("d2", 2, ("latest",)), ("d1", 1, ())]
        await store.put_workflow(_version("d1"))
        assert await store.resolve_tag("default", "flow", "latest") == "d1"
        assert await store.get_definition("default", "d1") == b'{"v":"d1"}'
        assert await store.get_definition("default", "none") is None

    async def test_tags_move_and_digests_name_themselves(self, store: Store) -> None:
        """A tag points where it was set last; a digest resolves only in its own workflow."""
        await store.put_workflow(_version("d1"))
        await store.put_workflow(_version("d2", created_at=2))
        await store.set_tag("default", "flow", "prod", "d1")
        assert await store.resolve_tag("default", "flow", "prod") == "d1"
        await store.set_tag("default", "flow", "prod", "d2")
        assert await store.resolve_tag("default", "flow", "prod") == "d2"
        assert await store.resolve_tag("default", "flow", "d1") == "d1"
        assert await store.resolve_tag("default", "other", "d1") is None
        assert await store.resolve_tag("default", "flow", "none") is None
        (newest, _) = await store.list_workflows("default")
        assert newest.tags == ("latest", "prod")

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
