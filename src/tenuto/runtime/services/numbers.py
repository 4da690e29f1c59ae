"""Numbers of versions: read from how they came of each other."""

from __future__ import annotations

from collections.abc import Sequence

from tenuto.ports.lineage import TagMove
from tenuto.ports.store import WorkflowRow


def numbers_of(rows: Sequence[WorkflowRow], moves: Sequence[TagMove]) -> dict[str, str]:
    """Return the number of each version: `n.0` for what was written, `n.m` for the m-th patch in the line of one.

    Args:
        rows: Versions of one workflow, newest first.
        moves: Of its tags, in any order.
    """
    parents = {move.digest: move.former for move in reversed(moves) if move.kind == "patch"}
    found: dict[str, tuple[int, int]] = {}
    majors, minors = 0, dict[int, int]()
    for row in reversed(rows):
        parent = found.get(parents.get(row.digest, ""))
        if parent is None:
            majors += 1
            found[row.digest] = (majors, 0)
        else:
            minors[parent[0]] = minors.get(parent[0], 0) + 1
            found[row.digest] = (parent[0], minors[parent[0]])
    return {digest: f"{major}.{minor}" for digest, (major, minor) in found.items()}


def comes_of(digest: str, base: str, moves: Sequence[TagMove]) -> bool:
    """Return whether a version is another one, or was made of it by patches."""
    parents = {move.digest: move.former for move in moves if move.kind == "patch"}
    seen: set[str] = set()
    while digest != base and digest in parents and digest not in seen:
        seen.add(digest)
        digest = parents[digest]
    return digest == base
