"""Every code block of the documentation does what it says, or says why it is not run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tenuto.domain.graph.validate import load_definition
from tests.docs.pages import ROOT, blocks, name_of, pages
from tests.docs.session import Session

TWO = re.compile(r"[a-z)`][.?!] +[A-Z`]")
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


def test_definitions_in_the_documentation_are_valid():
    found = 0
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in blocks(page):
            if block.language in ("yaml", "json") and "nodes" in block.text:
                document = yaml.safe_load(block.text)
                if isinstance(document, list):
                    continue  # a patch of one
                found += 1
                assert load_definition(document, None).nodes, f"{name_of(page)}:{block.line}"
    assert found


def test_prose_has_one_sentence_a_line():
    crowded: list[str] = []
    for page in pages():
        text = re.sub(
            r"```.*?```", lambda m: "\n" * m[0].count("\n"), page.read_text(encoding="utf-8"), flags=re.DOTALL
        )
        for number, line in enumerate(text.splitlines(), 1):
            if not line.startswith(
                ("|", "- ", "#", "!", "1", "2", "3", "4", "5", "6", "7", "8", "9")
            ) and TWO.search(line):
                crowded.append(f"{name_of(page)}:{number}: {line.strip()[:80]}")
    assert not crowded
