"""Pages that follow from the code say what the code says."""

from __future__ import annotations

import json

import pytest
from scripts.docs_pages import http
from scripts.generate_docs import PAGES, ROOT

OPENAPI = "docs/reference/openapi.json"


@pytest.mark.parametrize("name", [name for name in PAGES if name != OPENAPI])
def test_a_generated_page_is_up_to_date(name: str):
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name](), "run scripts/generate_docs.py"


def test_the_openapi_document_is_up_to_date():
    """Framework versions word details differently, so what is compared is what they agree on."""
    kept = json.loads((ROOT / OPENAPI).read_text(encoding="utf-8"))
    assert _outline(kept) == _outline(http.document()), "run scripts/generate_docs.py"


def _outline(document) -> object:
    operations = {
        (path, method): sorted(p["name"] for p in operation.get("parameters", ()) if "name" in p)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    schemas = {
        name: sorted(schema.get("properties", ()))
        for name, schema in document["components"]["schemas"].items()
    }
    return operations, schemas
