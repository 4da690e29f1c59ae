"""Loops that nothing but their limit ends, and limits that are none."""

from __future__ import annotations

from tenuto.domain.graph.analysis.scene import Scene
from tenuto.domain.graph.loops import Loop
from tenuto.domain.graph.reading import pointer

MANY = 100_000


def find_loops_without_end(scene: Scene) -> None:
    """Report loops that always make all their passes, and loops in loops whose passes multiply beyond measure."""
    for shape in scene.subject.shapes:
        places = {id(edge): place for edge, place in zip(shape.edges, shape.places, strict=True)}
        passes = {loop.header: 1 for loop in shape.loops}
        for loop in shape.loops:
            # The first pass is none of the edge's own, so a limit of n is n passes at most either way.
            own = max(edge.max_iterations or 1 for edge in loop.back)
            around = [outer for outer in shape.loops if outer is not loop and loop.header in outer.body]
            outer = [passes[one.header] for one in around if len(one.body) > len(loop.body)]
            passes[loop.header] = own * max(outer, default=1)
            place = places[id(loop.back[0])]
            if passes[loop.header] > MANY:
                message = f"the loop of {loop.header!r} may make {passes[loop.header]:,} passes"
                scene.add("loop.unbounded", pointer(place, "max_iterations"), message)
            if not any(_decides(scene, name, loop) for name in loop.body):
                scene.add("loop.no_exit", place, f"the loop of {loop.header!r} has no condition that ends it")


def _decides(scene: Scene, name: str, loop: Loop) -> bool:
    """Say whether a node of a loop may go another way than round again."""
    node, edges = scene.subject.by_id[name].node, [edge for edge, _ in scene.subject.outgoing.get(name, ())]
    chooses = node.kind == "agent" or (node.route == "first" and len(edges) > 1) or node.on_error is not None
    leaves = any(edge.to not in loop.body and edge.on not in ("success", "limit") for edge in edges)
    return chooses or leaves or any(edge.when for edge in edges)
