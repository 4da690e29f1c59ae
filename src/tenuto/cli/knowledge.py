"""`knowledge index|list|sources|documents|search|delete`: documents for agents to search."""

from __future__ import annotations

from tenuto.cli import show
from tenuto.cli.client import path_of
from tenuto.cli.context import cursor, items
from tenuto.cli.errors import CliError
from tenuto.cli.out import clean
from tenuto.cli.values import obj, seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.parse import Parser

BATCH_BYTES = 1_000_000
BATCH_DOCUMENTS = 200
TIMEOUT_S = 1800.0  # a model that runs on a processor takes its time


def args_index(parser: Parser) -> None:
    """Declare the options of `knowledge index`."""
    parser.option("base", metavar="BASE", help="name of the knowledge base; made when it is new")
    parser.option("path", metavar="PATH", help="a text file, or a directory of them")
    parser.option("--source", metavar="NAME", help="name of the source (default: the path's last part)")


def do_index(context: Context) -> int:
    """Bring a source up to date with the files below a path; what has not changed is not sent."""
    from hashlib import sha256

    from tenuto.runtime.services.collecting import collect

    args, out = context.args, context.out
    try:
        found = collect(args.path)
    except OSError as error:
        raise CliError(f"{args.path} cannot be read: {error.strerror}") from None
    source = args.source or found.name
    known = [{"path": name, "digest": sha256(text.encode()).hexdigest()} for name, text in found.texts.items()]
    total = {"added": 0, "changed": 0, "chunks": 0}
    needed = seq(obj(_index(context, source, known)).get("missing"))
    sent = 0
    for batch in _batches([str(name) for name in needed], found.texts):
        answer = obj(_index(context, source, [{"path": name, "text": found.texts[name]} for name in batch]))
        for name in total:
            total[name] += int(answer.get(name) or 0)
        sent += len(batch)
        if out.mode == "pretty" and sent < len(needed):
            out.note(f"{sent} of {len(needed)} documents")
    last = obj(_index(context, source, known, prune=True))
    result = {**last, **total, "unchanged": len(known) - len(needed), "skipped": found.skipped}

    def pretty() -> None:
        for name, reason in found.skipped.items():
            out.note(f"skipped {clean(name)}: {reason}")
        counts = ", ".join(f"{result[name]} {name}" for name in ("added", "changed", "unchanged", "removed"))
        out.line(clean(f"{args.base}/{source}: {counts}"))

    out.result(result, pretty)
    return 0


def _index(context: Context, source: str, documents: list[Any], *, prune: bool = False) -> Any:
    body = {"source": source, "documents": documents, "prune": prune}
    path = path_of("knowledge", context.args.base, "index")
    return context.client.call("POST", path, body, timeout_s=TIMEOUT_S)


def _batches(names: list[str], texts: dict[str, str]) -> list[list[str]]:
    """Return names in groups that are no more than a request should carry."""
    found: list[list[str]] = []
    size = BATCH_BYTES
    for name in names:
        if size + len(texts[name]) > BATCH_BYTES or len(found[-1]) >= BATCH_DOCUMENTS:
            found.append([])
            size = 0
        found[-1].append(name)
        size += len(texts[name])
    return found


def args_list(parser: Parser) -> None:
    """Declare the options of `knowledge list`, which has none of its own."""


def do_list(context: Context) -> int:
    """List knowledge bases."""
    out = context.out
    page = context.client.get("/knowledge")

    def pretty() -> None:
        rows = [
            (
                clean(base.get("name")), str(base.get("sources")), str(base.get("documents")), str(base.get("chunks")),
                clean(f"{base.get('embedding')} ({base.get('dimensions')})"), show.ago(base.get("updated_at")),
            )
            for base in items(page)
        ]
        show.table(out, ("BASE", "SOURCES", "DOCUMENTS", "PIECES", "EMBEDDING", "UPDATED"), rows)
        if not rows:
            out.note("No knowledge bases. Make one:  tenuto knowledge index NAME PATH")

    out.result(page, pretty)
    return 0


def args_sources(parser: Parser) -> None:
    """Declare the options of `knowledge sources`."""
    parser.option("base", metavar="BASE", help="name of the knowledge base")


def do_sources(context: Context) -> int:
    """List where the documents of a base come from."""
    out = context.out
    page = context.client.get(path_of("knowledge", context.args.base, "sources"))

    def pretty() -> None:
        rows = [
            (clean(one.get("name")), str(one.get("documents")), str(one.get("chunks")), show.ago(one.get("updated_at")))
            for one in items(page)
        ]
        show.table(out, ("SOURCE", "DOCUMENTS", "PIECES", "UPDATED"), rows)

    out.result(page, pretty)
    return 0


def args_documents(parser: Parser) -> None:
    """Declare the options of `knowledge documents`."""
    parser.option("base", metavar="BASE", help="name of the knowledge base")
    parser.option("--source", metavar="NAME", help="only this source's")
    parser.option("--limit", type=int, default=100, metavar="N", help="how many (default: 100)")
    parser.option("--cursor", help="go on where another list ended")


def do_documents(context: Context) -> int:
    """List the documents of a base."""
    args, out = context.args, context.out
    query = {"source": args.source, "limit": args.limit, "cursor": args.cursor}
    page = context.client.get(path_of("knowledge", args.base, "documents"), query)

    def pretty() -> None:
        rows = [
            (clean(one.get("source")), clean(one.get("path")), str(one.get("chars")), str(one.get("chunks")))
            for one in items(page)
        ]
        show.table(out, ("SOURCE", "DOCUMENT", "CHARACTERS", "PIECES"), rows)
        if cursor(page):
            out.note(f"More: add --cursor {cursor(page)!r}")

    out.result(page, pretty)
    return 0


def args_search(parser: Parser) -> None:
    """Declare the options of `knowledge search`."""
    parser.option("query", metavar="TEXT", help="what to look for")
    parser.option("--base", metavar="BASE", help="only in this base (default: all)")
    parser.option("--words", action="store_true", help="find pieces that hold all the words, not those near in meaning")
    parser.option("--exact", action="store_true", help="find pieces that hold the text as it is written")
    parser.option("--limit", type=int, default=5, metavar="N", help="how many (default: 5)")


def do_search(context: Context) -> int:
    """Search knowledge bases as an agent's tools do."""
    args, out = context.args, context.out
    mode = "exact" if args.exact else "words" if args.words else "meaning"
    body = {"query": args.query, "database": args.base or "", "mode": mode, "limit": args.limit}
    answer = context.client.post("/knowledge/search", body)

    def pretty() -> None:
        hits = [obj(hit) for hit in seq(obj(answer).get("hits"))]
        for hit in hits:
            place = clean(f"{hit.get('base')}/{hit.get('source')}/{hit.get('path')}")
            out.line(f"{out.paint(place, 'cyan')}  {float(hit.get('score') or 0):.3f}")
            out.line("  " + show.brief(str(hit.get("text") or ""), 300))
        if not hits:
            out.note("Nothing was found.")

    out.result(answer, pretty)
    return 0


def args_delete(parser: Parser) -> None:
    """Declare the options of `knowledge delete`."""
    parser.option("base", metavar="BASE", help="name of the knowledge base")
    parser.option("--source", metavar="NAME", help="only this source")


def do_delete(context: Context) -> int:
    """Delete a knowledge base, or one source of it; the files it was made from stay."""
    args, out = context.args, context.out
    answer = context.client.call("DELETE", path_of("knowledge", args.base), query={"source": args.source})
    what = f"{args.base}/{args.source}" if args.source else args.base
    out.result(answer, lambda: out.line(clean(f"{what} deleted ({obj(answer).get('documents')} documents)")))
    return 0
