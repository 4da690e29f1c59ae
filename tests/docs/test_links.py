"""Links between files lead somewhere, and the pages that must stay short are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, name_of, pages

_LINK = re.compile(r"\]\((?P<target>[^)#\s]+)(?:#[^)]*)?\)")
_FENCED = re.compile(r"```.*?```", re.DOTALL)
SHORT = {"ARCHITECTURE.md": 150, "AGENTS.md": 150}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_to_files_lead_somewhere(page: Path):
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    targets = [match["target"] for match in _LINK.finditer(text)]
    broken = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not broken


@pytest.mark.parametrize("name", SHORT)
def test_a_page_read_whole_stays_short(name: str):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= SHORT[name]
