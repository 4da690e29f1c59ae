"""What the built-in tools may reach."""

from __future__ import annotations

from dataclasses import dataclass

from tenuto.settings.keys import between, key, one_of


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where the file tools read and write."""

    dir: str = key("", "directory of the workspaces; empty is `workspaces` in the data directory")
    scope: str = key("run", "whose a workspace is: each run's own, or shared by the runs of a project",
                     one_of("run", "project"))  # fmt: skip
    max_file_bytes: int = key(1_000_000, "longest file a tool may write", between(1, 2**40, " bytes"))
    max_bytes: int = key(100_000_000, "most a workspace may hold", between(1, 2**44, " bytes"))


