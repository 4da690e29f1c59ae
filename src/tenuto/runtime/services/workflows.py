"""Workflows: validate, publish, tag, find and retire versions."""

from __future__ import annotations

from typing import Any

from tenuto.domain.graph.model import Definition
from tenuto.runtime.services.context import Context
from tenuto.runtime.services.results import Page, Validation, WorkflowVersion, WorkflowView

Document = Definition | dict[str, Any] | str | bytes
"""A definition, or a mapping, JSON or YAML text to be read as one."""


class Workflows:
    """Every use case of workflows, for one namespace."""

    def __init__(self, context: Context) -> None:
        """Use the store and caches of an engine."""
        self._c = context

    async def validate(self, document: Document) -> Validation:
        """Return every problem of a definition; stores nothing."""
        raise NotImplementedError

    async def publish(self, document: Document) -> WorkflowVersion:
        """Store a version, and let `latest` point at it; repeats change nothing.

        Raises:
            InvalidGraph: With every problem.
        """
        raise NotImplementedError

    async def list(self, name: str | None = None, *, after: str = "", limit: int = 100) -> Page[WorkflowVersion]:
        """Return versions, newest first: the latest of each workflow, or all versions of one by name."""
        raise NotImplementedError

    async def get(self, name: str, version: str = "latest") -> WorkflowView:
        """Return a version by tag or digest, with its shape.

        Raises:
            WorkflowMissing: There is none; names the nearest.
        """
        raise NotImplementedError

    async def tag(self, name: str, tag: str, version: str) -> WorkflowVersion:
        """Let a tag point at a version, given by digest or another tag."""
        raise NotImplementedError

    async def retire(self, name: str, version: str | None = None) -> int:
        """Mark a version, or all, as not startable; runs that exist go on. Returns how many."""
        raise NotImplementedError

    async def resolve(self, name: str, tag: str = "latest") -> str:
        """Return the digest a tag points at.

        Raises:
            WorkflowMissing: No such workflow or tag; names the nearest.
        """
        raise NotImplementedError
