"""From settings to what the built-in tools work with."""

from __future__ import annotations

from pathlib import Path

from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.runtime.tools.http import HttpPolicy
from tenuto.runtime.tools.workspace import Workspaces
from tenuto.settings import Settings


def kit_of(settings: Settings) -> Kit:
    """Return what the built-in tools work with under these settings."""
    workspace = settings.workspace
    return Kit(
        workspaces=Workspaces(
            root=Path(workspace.dir or Path(settings.data_dir) / "workspaces"), scope=workspace.scope,
            max_write=workspace.max_file_bytes, max_total=workspace.max_bytes,
        ),
        http=HttpPolicy(allowed=frozenset(host.lower() for host in settings.http_allow)),
    )
