"""From whatever a caller hands in to a checked definition: mappings, JSON or YAML text, plain step lists."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from tenuto.domain.base.canonical import canonical_json
from tenuto.domain.graph.analysis import Finding, analyse
from tenuto.domain.graph.digests import digest_of_definition
from tenuto.domain.graph.model import Definition
from tenuto.domain.graph.parse import read_definition
from tenuto.domain.graph.steps import steps_to_definition
from tenuto.domain.graph.validate import load_definition, require_valid
from tenuto.errors import InvalidGraph, Problem
from tenuto.ports.store import WorkflowRow
from tenuto.runtime.tools.catalog import Catalog

Document = Definition | dict[str, Any] | str | bytes
"""A definition, or a mapping, JSON or YAML text to be read as one."""


def read(document: Document, catalog: Catalog | None) -> Definition:
    """Return the valid definition a document describes, completed by what the catalog's handlers declare.

    Raises:
        InvalidGraph: With every problem.
    """
    known = catalog.known() if catalog is not None else None
    if isinstance(document, Definition):
        return require_valid(catalog.complete(document) if catalog is not None else document, known)
    data: Any = text(document) if isinstance(document, str | bytes) else document
    if _is_step_list(data):
        return read_steps(data, catalog)
    return load_definition(data, known, complete=catalog.complete if catalog is not None else None)


def study(document: Document, catalog: Catalog | None) -> tuple[Definition, tuple[Finding, ...]]:
    """Return the valid definition a document describes, and what was found in it, at the places its author wrote.

    Raises:
        InvalidGraph: With every problem.
    """
    data: Any = text(document) if isinstance(document, str | bytes) else document
    definition = read(data, catalog)
    found = analyse(definition, catalog.known() if catalog is not None else None)
    if isinstance(data, Definition) or _is_step_list(data):
        return definition, found
    written = read_definition(data).written
    return definition, tuple(msgspec.structs.replace(one, place=written(one.place)) for one in found)


def _is_step_list(data: Any) -> bool:
    return isinstance(data, dict) and "steps" in data and "nodes" not in data and "graph" not in data


def read_steps(document: Any, catalog: Catalog | None) -> Definition:
    """Return the definition of a plain step list.

    Raises:
        InvalidGraph: With every problem.
    """
    known = catalog.known() if catalog is not None else None
    definition = steps_to_definition(document, known)
    return require_valid(catalog.complete(definition) if catalog is not None else definition, known)


def text(document: str | bytes) -> Any:
    """Return the data in a JSON or YAML text.

    Raises:
        InvalidGraph: It is neither.
    """
    try:
        return msgspec.json.decode(document)
    except msgspec.DecodeError:
        pass
    try:
        return yaml.safe_load(document)
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        problem = Problem(place="", message=f"neither JSON nor YAML: {' '.join(str(exc).split())}", code="graph.text")
        raise InvalidGraph("the workflow definition cannot be read", problems=(problem,)) from exc


def version_row(ns: str, definition: Definition, now: int) -> WorkflowRow:
    """Return the row that stores a definition under its digest."""
    return WorkflowRow(
        ns=ns, name=definition.name, digest=digest_of_definition(definition), body=canonical_json(definition),
        created_at=now,
    )
