"""What conditions, expressions and templates say, as far as the rules need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tenuto.domain.base.expressions import ExpressionError, compile_condition, compile_expression
from tenuto.domain.base.references import TemplateError, parse_template


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
        compile_expression(text)
    except ExpressionError as error:
        return str(error)
    return ""


def mentions_in(value: Any) -> tuple[Mention, ...]:
    """Return every reference in a template.

    Raises:
        TemplateFault: The template cannot be read.
    """
    try:
        template = parse_template(value)
    except TemplateError as error:
        raise TemplateFault(str(error)) from error
    return tuple(_mention(reference) for reference in template.references)


def _mention(reference: Any) -> Mention:
    path = reference.path
    return Mention(str(reference), reference.root, str(path[0]) if reference.root == "nodes" and path else "")
