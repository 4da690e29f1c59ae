"""A watched run's table stays in place: no line it draws is wider than the screen."""

from __future__ import annotations

import pytest

from tenuto.cli import show
from tenuto.cli.watch import fitted


@pytest.mark.parametrize("text", [
    "plain " * 40, "\x1b[2m12:00:00\x1b[0m  \x1b[32mstep.completed\x1b[0m  " + "x" * 200, "日本語" * 60, "short",
    "\x1b[2m" + "界" * 99 + "\x1b[0m",
])  # fmt: skip
@pytest.mark.parametrize("width", [0, 20, 79, 80])
def test_a_line_fits_and_ends_its_colours(text: str, width: int) -> None:
    line = fitted(text, width)
    if not width:
        assert line == text
        return
    assert show.cells(line) < width or line == text
    assert line.count("\x1b[") == text.count("\x1b[")
