"""The tables of the stores, from their migrations."""

from __future__ import annotations

from pathlib import Path

import tenuto
from scripts.docs_pages.markdown import opening

STORES = {"Postgres": "postgres", "SQLite": "sqlite"}


def page() -> str:
    """Return the page."""
    text = opening(
        "Database schema",
        "the migrations of the stores",
        "`tenuto migrate --plan` prints the same for the database you name, without connecting.",
        "The journal is the truth; the names of tables and columns may change with a minor version, by migrations that first add and later remove.",
        "Read them for support; write them never.",
    )
    for title, folder in STORES.items():
        text += f"\n## {title}\n"
        for path in sorted(
            (Path(tenuto.__file__).parent / "adapters" / "stores" / folder / "migrations").glob("*.sql")
        ):
            text += f"\n### {path.stem}\n\n```sql\n{path.read_text(encoding='utf-8').strip()}\n```\n"
    return text
