"""`search_knowledge`, by meaning, and `lookup` or `lookup_type`, by words: what the knowledge bases say."""

from __future__ import annotations

from typing import Any

import msgspec

from tenuto.ports.knowledge import Hit, Knowledge
from tenuto.runtime.tools.builtin.kit import Kit, ToolNotSetUp, declare, text, whole
from tenuto.runtime.tools.catalog import CallInfo

MAX_HITS = 50
_DATABASE = text("Name of the knowledge base; all of them when left out.", default="")
_LIMIT = whole("How many pieces at most.", 1, MAX_HITS, default=5)


def _bases(kit: Kit) -> Knowledge:
    if kit.knowledge is None:
        raise ToolNotSetUp("this engine was started without knowledge bases; give its kit some")
    return kit.knowledge


def _told(hits: list[Hit]) -> dict[str, Any]:
    return {"hits": [msgspec.to_builtins(hit) for hit in hits]}


async def _search(kit: Kit, info: CallInfo, query: str, database: str = "", limit: int = 5) -> dict[str, Any]:
    return _told(await _bases(kit).search(info.ns, query, database, limit=limit))


async def _lookup(
    kit: Kit, info: CallInfo, query: str, database: str = "", exact: bool = False, limit: int = 5
) -> dict[str, Any]:
    return _told(await _bases(kit).lookup(info.ns, query, database, exact=exact, limit=limit))


_WORDS = {
    "query": text("Words that all have to occur, or with `exact` the very text.", minLength=1),
    "database": _DATABASE,
    "exact": {"type": "boolean", "description": "Whether the text has to occur as it is written.", "default": False},
    "limit": _LIMIT,
}

TOOLS = (
    declare(
        _search, "search_knowledge", "Search the knowledge bases by meaning; returns pieces of documents, best first.",
        {"query": text("What to look for, in a sentence.", minLength=1), "database": _DATABASE, "limit": _LIMIT},
        required=("query",),
    ),
    *(
        declare(_lookup, name, "Look a name or words up in the knowledge bases; returns pieces that hold them.", _WORDS,
                required=("query",))
        for name in ("lookup", "lookup_type")
    ),
)
