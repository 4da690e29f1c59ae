"""Every code block of the documentation does what it says, or says why it is not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import blocks, name_of, pages
from tests.docs.session import Session

LANGUAGES = {"python", "bash", "json", "yaml", "text", "toml", "mermaid", "sql"}


def is_played(page: Path) -> bool:
    """Say whether a page has something to run."""
    return any(block.language in ("python", "bash", "json") and not block.reason for block in blocks(page))


@pytest.mark.parametrize("page", [page for page in pages() if is_played(page)], ids=name_of)
def test_a_page_can_be_followed_as_written(page: Path, tmp_path: Path, request: pytest.FixtureRequest):
    wants_database = any("DATABASE" in block.text for block in blocks(page) if not block.reason)
    session = Session(tmp_path, request.getfixturevalue("postgres_url") if wants_database else "")
    try:
        for block in blocks(page):
            if not block.reason:
                try:
                    session.play(block)
                except Exception as exc:
                    raise AssertionError(f"{name_of(page)}:{block.line}: {exc}") from exc
    finally:
        session.close()


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_blocks_name_a_known_language(page: Path):
    unknown = [
        f"{block.line}: {block.language!r}" for block in blocks(page) if block.language not in LANGUAGES
    ]
    assert not unknown
