"""Content addresses of definitions: equal meaning, equal digest, whatever the key order of the document."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.domain.base.canonical import digest
from tenuto.domain.graph.model import Definition


def definition_to_json(definition: Definition) -> dict[str, Any]:
    """Return the canonical form as plain JSON objects, defaults left out."""
    return msgspec.to_builtins(definition)


def digest_of_definition(definition: Definition) -> str:
    """Return the digest that is the workflow's version."""
    return digest(definition)
