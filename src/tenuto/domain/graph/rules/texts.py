"""What conditions and expressions say, as far as the rules need it."""

from __future__ import annotations

from tenuto.domain.base.expressions import Expression, ExpressionError, compile_condition, compile_value


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
