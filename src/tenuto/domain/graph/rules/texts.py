"""What conditions, expressions and templates say, as far as the rules need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenuto.domain.base.expressions import Expression, ExpressionError, compile_condition, compile_value
from tenuto.domain.base.references import Reference, ReferenceSyntaxError, parse_template


class TemplateFault(Exception):
    """A template cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Mention:
    """One reference in a template.

    Attributes:
        text: As the author wrote it.
        root: `input`, `nodes`, `item`, …
        node: The node named after `nodes`, else empty.
    """

    text: str
    root: str
    node: str


def condition_fault(text: str) -> str:
    """Return why text is no condition, or nothing."""
    try:
        compile_condition(text)
    except ExpressionError as error:
        return str(error)
    return ""


def expression_fault(text: str) -> str:
    """Return why text is no expression, or nothing."""
    try:
        compile_value(text)
    except ExpressionError as error:
        return str(error)
    return ""


def nodes_read(text: str, *, condition: bool) -> tuple[str, ...]:
    """Return the nodes an expression names, sorted; none for text that does not compile."""
    try:
        expression: Expression = compile_condition(text) if condition else compile_value(text)
    except ExpressionError:
        return ()
    prefix = "nodes."
    return tuple(sorted(name.removeprefix(prefix) for name in expression.reads if name.startswith(prefix)))


def mentions_in(value: Any) -> tuple[Mention, ...]:
    """Return every reference in a template.

    Raises:
        TemplateFault: The template cannot be read.
    """
    try:
        template = parse_template(value)
    except ReferenceSyntaxError as error:
        raise TemplateFault(str(error)) from error
    return tuple(_mention(reference) for reference in template.references)


def _mention(reference: Reference) -> Mention:
    return Mention(reference.text, reference.root, reference.node or "")
