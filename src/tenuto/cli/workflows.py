"""`workflow list|show|validate|publish|tag|patch|history|undo|redo|retire`."""

from __future__ import annotations

from tenuto.cli import inputs, show
from tenuto.cli.client import path_of
from tenuto.cli.complain import entry_lines
from tenuto.cli.context import cursor, items
from tenuto.cli.control import given
from tenuto.cli.out import clean
from tenuto.cli.patch_show import gain_lines
from tenuto.cli.values import is_object, obj, seq

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tenuto.cli.context import Context
    from tenuto.cli.out import Out
    from tenuto.cli.parse import Parser


def args_list(parser: Parser) -> None:
    """Declare the options of `workflow list`."""
    parser.option("name", nargs="?", metavar="NAME", help="list the versions of this workflow")
    parser.option("--limit", type=int, default=100, metavar="N", help="how many (default: 100)")
    parser.option("--cursor", help="go on where another list ended")


def do_list(context: Context) -> int:
    """List workflows, or the versions of one."""
    args, out = context.args, context.out
    page = context.client.get("/workflows", {"name": args.name, "limit": args.limit, "cursor": args.cursor})

    def pretty() -> None:
        rows = [
            (
                clean(entry.get("name")),
                clean(" ".join(filter(None, (entry.get("number"), entry.get("version")))) or show.NOTHING),
                clean(", ".join(map(str, entry.get("tags") or [])) or show.NOTHING),
                show.ago(entry.get("created_at")),
                show.status(out, "retired") if entry.get("retired") else "",
            )
            for entry in items(page)
        ]
        show.table(out, ("WORKFLOW", "VERSION", "TAGS", "PUBLISHED", ""), rows)
        if not rows:
            out.note("No workflows. Publish one:  tenuto workflow publish FILE")
        if cursor(page):
            out.note(f"More: add --cursor {cursor(page)}")

    out.result(page, pretty)
    return 0


def args_show(parser: Parser) -> None:
    """Declare the options of `workflow show`."""
    parser.option("name", metavar="NAME", help="name of the workflow")
    parser.option("--tag", metavar="TAG", help="a tag or a digest (default: latest)")
    parser.option(
        "--definition", action="store_true", help="only the definition, as JSON that can be published again"
    )


def do_show(context: Context) -> int:
    """Show a workflow's graph and definition."""
    args, out = context.args, context.out
    found = context.client.get(path_of("workflows", args.name), {"version": args.tag})
    if args.definition:
        out.json(found.get("definition"))
        return 0

    def pretty() -> None:
        tags = ", ".join(map(str, found.get("tags") or []))
        retired = "yes" if found.get("retired") else ""
        pairs = [("workflow", clean(found.get("name"))), ("version", clean(found.get("version") or ""))]
        show.fields(out, [*pairs, ("tags", clean(tags)), ("retired", retired)])
        graph = found.get("graph") or found.get("definition")
        if graph:
            from tenuto.cli.inspect import show_graph

            out.line()
            show_graph(context, graph)
        out.note(f"\nStart it:  tenuto run start {clean(found.get('name'))} --input JSON")

    out.result(found, pretty)
    return 0


def _document(path: str) -> tuple[bytes, str]:
    document = inputs.read_document(path)
    if isinstance(document, inputs.Yaml):
        return document.encode(), inputs.YAML_TYPE
    return inputs.json.dumps(document).encode(), ""


def args_validate(parser: Parser) -> None:
    """Declare the options of `workflow validate`."""
    parser.option("file", metavar="FILE", help="a .json or .yaml definition (- for standard input)")
    parser.option("--strict", action="store_true", help="let warnings count as errors do")


def do_validate(context: Context) -> int:
    """Check a definition; exit code 1 when it has problems, or findings that are errors (with --strict: warnings)."""
    out = context.out
    payload, kind = _document(context.args.file)
    found: dict[str, Any] = context.client.post("/workflows/validate", payload, kind=kind)
    problems: list[Any] = found.get("problems") or found.get("errors") or []
    is_valid = bool(found.get("valid", not problems))
    grouped = _by_severity(found)

    def pretty() -> None:
        if is_valid:
            out.line(f"{out.paint('valid', 'green')}  {clean(found.get('version') or '')}".rstrip())
        else:
            out.line(
                f"{out.paint('not valid', 'red')}: {len(problems)} problem{'s' if len(problems) != 1 else ''}"
            )
        for problem in problems:
            out.line("\n".join(entry_lines(problem)))
        for severity, entries in grouped.items():
            _show_findings(out, severity, entries)

    out.result(found, pretty)
    counts = ("error", "warning") if context.args.strict else ("error",)
    return 0 if is_valid and not any(grouped.get(severity) for severity in counts) else 1


_COLOURS = {"error": "red", "warning": "yellow", "note": "blue"}


def _by_severity(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for entry in map(obj, seq(found.get("findings"))):
        grouped.setdefault(str(entry.get("severity")), []).append(entry)
    return {severity: grouped[severity] for severity in (*_COLOURS, *grouped) if severity in grouped}


def _show_findings(out: Out, severity: str, entries: list[dict[str, Any]]) -> None:
    count = f"{len(entries)} {clean(severity)}{'s' if len(entries) != 1 else ''}"
    out.line("\n" + out.paint(count, _COLOURS.get(severity, "dim"), "bold"))
    for entry in entries:
        out.line(f"  {clean(entry.get('place') or '/')}  {out.paint(clean(entry.get('id')), 'dim')}")
        out.line(f"    {clean(entry.get('message'))}")
        if entry.get("fix"):
            out.line(f"    {out.paint('fix:', 'green')} {clean(entry['fix'])}")


def args_publish(parser: Parser) -> None:
    """Declare the options of `workflow publish`."""
    parser.option("file", metavar="FILE", help="a .json or .yaml definition (- for standard input)")
    parser.option("--tag", metavar="TAG", help="let this tag point at it as well")


def do_publish(context: Context) -> int:
    """Store a definition as a version of its workflow; a repeat changes nothing."""
    args, out = context.args, context.out
    payload, kind = _document(args.file)
    stored = context.client.post("/workflows", payload, kind=kind)
    if args.tag:
        path = path_of("workflows", stored["name"], "tags", args.tag)
        stored = context.client.call("PUT", path, {"version": stored["version"]})
    tags = ", ".join(map(str, stored.get("tags") or []))
    out.result(
        stored, lambda: out.line(clean(f"{stored.get('name')} {stored.get('version')} published ({tags})"))
    )
    return 0


def args_tag(parser: Parser) -> None:
    """Declare the options of `workflow tag`."""
    parser.option("name", metavar="NAME", help="name of the workflow")
    parser.option("tag", metavar="TAG", help="the tag to move")
    parser.option(
        "version", metavar="VERSION", nargs="?", default="latest", help="digest or tag (default: latest)"
    )


def do_tag(context: Context) -> int:
    """Let a tag point at a version."""
    args, out = context.args, context.out
    stored = context.client.call(
        "PUT", path_of("workflows", args.name, "tags", args.tag), {"version": args.version}
    )
    version = obj(stored).get("version") or args.version
    out.result(stored, lambda: out.line(clean(f"{args.name}@{args.tag} is {version}")))
    return 0


def args_patch(parser: Parser) -> None:
    """Declare the options of `workflow patch`."""
    parser.option("name", metavar="NAME", help="name of the workflow")
    parser.option("file", metavar="FILE", help="JSON Patch operations as .json or .yaml (- for standard input)")
    parser.option("--base", metavar="VERSION", help="tag or digest it is made for (default: latest)")
    parser.option("--tag", metavar="TAG", help="the tag to move (default: latest)")
    parser.option("--reason", help="why, for whoever looks at it")


def do_patch(context: Context) -> int:
    """Make a version of another by a patch; runs started from then on go by it."""
    args = context.args
    document = inputs.read_document(args.file)
    parts: dict[str, Any] = dict(document) if is_object(document) else {"operations": document}
    parts.update(given(reason=args.reason, base=args.base, tag=args.tag))
    payload, kind = inputs.encode(parts)
    return _moved(context, context.client.post(path_of("workflows", args.name, "patches"), payload, kind=kind))


def args_history(parser: Parser) -> None:
    """Declare the options of `workflow history`."""
    parser.option("name", metavar="NAME", help="name of the workflow")
    parser.option("--tag", metavar="TAG", help="only this tag")


def do_history(context: Context) -> int:
    """Show every move of a workflow's tags, oldest first."""
    args, out = context.args, context.out
    page = context.client.get(path_of("workflows", args.name, "moves"), {"tag": args.tag})

    def pretty() -> None:
        rows = [
            (clean(move.get("tag")), str(move.get("n")), clean(move.get("kind")), clean(move.get("version")),
             clean(move.get("by") or show.NOTHING), show.ago(move.get("at")), clean(move.get("reason") or ""))
            for move in items(page)
        ]  # fmt: skip
        show.table(out, ("TAG", "MOVE", "HOW", "VERSION", "BY", "WHEN", "WHY"), rows)
        for move in items(page):
            if is_object(move.get("gain")):
                out.line(f"\n{clean(move.get('tag'))} {move.get('n')}: {clean(obj(move['gain']).get('title'))}")
                for line in gain_lines(out, obj(move["gain"])):
                    out.line(f"  {line}")
        if not rows:
            out.note("No tag was moved since moves are remembered.")

    out.result(page, pretty)
    return 0


def _back(parser: Parser) -> None:
    parser.option("name", metavar="NAME", help="name of the workflow")
    parser.option("--tag", metavar="TAG", default="latest", help="the tag to move (default: latest)")
    parser.option("--reason", help="why, for whoever looks at it")


def args_undo(parser: Parser) -> None:
    """Declare the options of `workflow undo`."""
    _back(parser)


def do_undo(context: Context) -> int:
    """Let a tag point where it did before its last move; no version is lost."""
    return _turned(context, "undo")


def args_redo(parser: Parser) -> None:
    """Declare the options of `workflow redo`."""
    _back(parser)


def do_redo(context: Context) -> int:
    """Let a tag point where it did before its last undo."""
    return _turned(context, "redo")


def _turned(context: Context, how: str) -> int:
    args = context.args
    path = path_of("workflows", args.name, "tags", args.tag, how)
    return _moved(context, context.client.post(path, given(reason=args.reason)))


def _moved(context: Context, stored: Any) -> int:
    out, found = context.out, obj(stored)
    tags = ", ".join(map(str, found.get("tags") or []))
    words = f"{found.get('name')} {found.get('number') or ''} {found.get('version')} ({tags})"
    out.result(stored, lambda: out.line(clean(" ".join(words.split()))))
    return 0


def args_retire(parser: Parser) -> None:
    """Declare the options of `workflow retire`."""
    parser.option("name", metavar="NAME", help="name of the workflow")
    parser.option("--version", metavar="DIGEST", help="only this version (default: all)")


def do_retire(context: Context) -> int:
    """Let no new runs start; those that exist go on."""
    args, out = context.args, context.out
    answer = context.client.post(path_of("workflows", args.name, "retire"), given(version=args.version))
    count = next((value for value in obj(answer).values() if isinstance(value, int)), None)
    versions = "" if count is None else f" ({count} version{'s' if count != 1 else ''})"
    out.result(answer, lambda: out.line(clean(f"{args.name} retired{versions}; runs that exist go on")))
    return 0
