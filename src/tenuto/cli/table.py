"""Every command: the module and function behind it and one line of help. The only place a command is named."""

from __future__ import annotations

# Words -> module below `tenuto.cli`, suffix of its `args_…` and `do_…` functions, summary.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "serve": ("local", "serve", "Start the API, the page and a worker"),
    "worker": ("local", "worker", "Start worker processes for a database"),
    "mcp": ("local", "mcp", "Offer workflows, runs and tickets to agents over MCP"),
    "demo": ("local", "demo", "Watch a run lose its worker, resume and be replayed"),
    "run start": ("start", "start", "Start a run of a workflow or of a definition in a file"),
    "run list": ("runs", "list", "List runs, newest first"),
    "run status": ("runs", "status", "Show a run and its steps"),
    "run why": ("inspect", "why", "Say what a run waits for and who can move it"),
    "run cancel": ("control", "cancel", "Stop a run, work in flight included"),
    "run pause": ("control", "pause", "Start nothing new in a run until it is resumed"),
    "run resume": ("control", "resume", "Let a paused, failed or halted run go on"),
    "run retry": ("control", "retry", "Send a failed step round again, with other config if wanted"),
    "run signal": ("control", "signal", "Send a named signal to a run"),
    "run steps": ("inspect", "steps", "List a run's steps, items of maps included"),
    "run events": ("inspect", "events", "List what happened in a run"),
    "run state": ("inspect", "state", "Show a run's state, now or as of any record"),
    "run graph": ("inspect", "graph", "Show a run's graph with the states of its nodes"),
    "run diff": ("diff", "diff", "Compare two runs"),
    "run delete": ("control", "delete", "Delete an ended run and its journal"),
    "logs stream": ("logs", "stream", "Follow what happens in a run until it ends"),
    "watch": ("watch", "watch", "Watch a run's steps change, live"),
    "replay": ("replay", "replay", "Run a run again from a step or node, with edits if wanted"),
    "approve": ("tickets", "approve", "Decide a ticket; alone, show it and ask"),
    "notifications list": ("notifications", "list", "List messages that tell people of questions"),
    "notifications resend": ("notifications", "resend", "Send a message again"),
    "tickets list": ("tickets", "list", "List open questions to people"),
    "patch propose": ("patches", "propose", "Propose a change of a run's graph while it runs"),
    "patch list": ("patches", "list", "List the patches of a run, or proposals for the runs to come"),
    "patch show": ("patches", "show", "Show what a patch or proposal changes, who wants it and why"),
    "patch approve": ("patches", "approve", "Approve a patch or proposal"),
    "patch reject": ("patches", "reject", "Turn a patch or proposal down"),
    "patch undo": ("patches", "undo", "Take back the newest patch in force"),
    "patch redo": ("patches", "redo", "Bring back the patch taken back last"),
    "patch graph": ("patches", "graph", "Show what of a run's graph may be patched"),
    "optimize": ("optimize", "optimize", "Ask optimizers how a workflow or a run could be better"),
    "optimizer list": ("optimizers", "list", "List the optimizers that are asked"),
    "optimizer show": ("optimizers", "show", "Show an optimizer, and what went wrong with it"),
    "optimizer add": ("optimizers", "add", "Add a WebAssembly module as an optimizer"),
    "optimizer remove": ("optimizers", "remove", "Forget an optimizer that was added"),
    "optimizer enable": ("optimizers", "enable", "Ask an optimizer again, its failures forgotten"),
    "optimizer disable": ("optimizers", "disable", "Ask an optimizer no more"),
    "optimizer new": ("optimizers", "new", "Write a template of an optimizer into a folder"),
    "deadletter list": ("deadletters", "list", "List steps that failed for good"),
    "deadletter redrive": ("deadletters", "redrive", "Send a dead letter round again"),
    "workflow list": ("workflows", "list", "List registered workflows"),
    "workflow show": ("workflows", "show", "Show a workflow's definition"),
    "workflow validate": ("workflows", "validate", "Check a definition: every problem, and what will go wrong in a run"),
    "workflow publish": ("workflows", "publish", "Register a definition as a new version"),
    "workflow tag": ("workflows", "tag", "Point a tag at a version"),
    "workflow patch": ("workflows", "patch", "Make a version of another by a patch"),
    "workflow propose": ("proposals", "propose", "Propose a change of a workflow for somebody to decide"),
    "workflow stats": ("optimize", "stats", "Show what the runs of a workflow took, by node"),
    "workflow history": ("workflows", "history", "Show where a workflow's tags have been"),
    "workflow undo": ("workflows", "undo", "Let a tag point where it did before"),
    "workflow redo": ("workflows", "redo", "Take an undo of a tag back"),
    "workflow retire": ("workflows", "retire", "Let no new runs start from a workflow"),
    "artifact list": ("artifacts", "list", "List artifacts, or the content a run refers to"),
    "artifact get": ("artifacts", "get", "Fetch content by its digest"),
    "artifact put": ("artifacts", "put", "Store a file under the digest of its content"),
    "knowledge index": ("knowledge", "index", "Index files into a knowledge base, or bring it up to date"),
    "knowledge list": ("knowledge", "list", "List knowledge bases"),
    "knowledge sources": ("knowledge", "sources", "List the sources of a knowledge base"),
    "knowledge documents": ("knowledge", "documents", "List the documents of a knowledge base"),
    "knowledge search": ("knowledge", "search", "Search knowledge as an agent does"),
    "knowledge delete": ("knowledge", "delete", "Delete a knowledge base or a source of it"),
    "findings list": ("findings", "list", "List what agents found out"),
    "findings delete": ("findings", "delete", "Let later prompts leave a finding out"),
    "budget list": ("budgets", "list", "Show shared caps, what counts under them, and who waits"),
    "budget set": ("budgets", "set", "Set a cap for all runs or a project"),
    "budget clear": ("budgets", "clear", "Remove a cap"),
    "budget holds": ("budgets", "holds", "List money held for calls without a known outcome"),
    "budget settle": ("budgets", "settle", "Say what a call with a lost outcome did cost"),
    "cache stats": ("cache", "stats", "Show what kept results saved, and what is kept"),
    "cache invalidate": ("cache", "invalidate", "Forget kept results"),
    "usage": ("usage", "usage", "Show what was spent, by day, model, project, …"),
    "services": ("admin", "services", "Show what the engine stands on, and what of it is away"),
    "prune": ("admin", "prune", "Delete runs that ended before a moment"),
    "migrate": ("local", "migrate", "Bring a database to this version's schema"),
    "rebuild": ("local", "rebuild", "Build the lists across runs anew from the journals"),
    "doctor": ("local", "doctor", "Check database, workers and settings"),
    "chaos": ("local", "chaos", "Kill workers under load and check that nothing was lost"),
    "audit verify": ("local", "audit_verify", "Check journals for alteration"),
    "audit export": ("local", "audit_export", "Write journals with their proofs to a file"),
    "keys generate": ("local", "keys_generate", "Print a new master key"),
    "keys list": ("local", "keys_list", "List the keys of an encrypted database"),
    "keys rotate": ("local", "keys_rotate", "Seal what is written from now on with new keys"),
    "keys rewrap": ("local", "keys_rewrap", "Wrap all keys with the master key in force"),
    "keys shred": ("local", "keys_shred", "Make all a namespace has stored unreadable"),
    "version": ("admin", "version", "Show this version and the server's"),
}

SECTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Start here", ("demo", "serve", "worker")),
    ("Runs", ("run", "logs", "watch", "replay", "patch", "deadletter")),
    ("People", ("approve", "tickets", "notifications")),
    ("Definitions and values", ("workflow", "optimize", "optimizer", "artifact", "knowledge", "findings")),
    ("Operation", ("mcp", "services", "budget", "usage", "cache", "prune", "migrate", "rebuild", "doctor", "chaos", "audit",
                   "keys", "version")),
)

GROUPS: dict[str, str] = {
    "run": "Start, inspect and control runs",
    "logs": "Follow a run",
    "notifications": "Messages that tell people of questions",
    "tickets": "Questions to people",
    "patch": "Changes of a run's graph while it runs, and of workflows for the runs to come",
    "deadletter": "Steps that failed for good",
    "workflow": "Definitions, versions and tags",
    "optimizer": "What proposes better workflows by itself",
    "artifact": "Stored content, by digest",
    "knowledge": "Documents for agents to search",
    "findings": "What agents found out, and tell each other",
    "budget": "Money that many runs share",
    "cache": "Results of steps, kept for others",
    "audit": "Proof that nothing was altered",
    "keys": "Look after the keys of an encrypted database",
}

GLOBAL_HELP = """\
Everywhere:
  --output pretty|json|compact   form of the result (default: pretty)
  --api-url URL                  server to talk to (TENUTO_API_URL)
  --token TOKEN                  token to show there (TENUTO_TOKEN)
  -h, --help                     help of any command

Exit codes: 0 done, 1 failed, 2 refused by the API or no answer, 130 interrupted"""


def overview() -> str:
    """Return the help of `tenuto` itself."""
    lines = ["usage: tenuto COMMAND [OPTIONS]", "", "Durable, replayable multi-agent workflows."]
    for title, names in SECTIONS:
        lines += ["", f"{title}:"]
        for name in names:
            if name in GROUPS:
                subs = "|".join(words.partition(" ")[2] for words in COMMANDS if words.startswith(f"{name} "))
                lines.append(f"  {name:<11} {GROUPS[name]}")
                lines += [f"  {'':<11}   {line}" for line in _wrapped(subs)]
            else:
                lines.append(f"  {name:<11} {COMMANDS[name][2]}")
    return "\n".join([*lines, "", GLOBAL_HELP])


def group_overview(group: str) -> str:
    """Return the help of a command group."""
    rows = [(words, entry[2]) for words, entry in COMMANDS.items() if words.startswith(f"{group} ")]
    width = max(len(words) for words, _ in rows)
    lines = [f"usage: tenuto {group} COMMAND [OPTIONS]", "", f"{GROUPS[group]}.", ""]
    return "\n".join([*lines, *(f"  {words:<{width}}  {says}" for words, says in rows), "", GLOBAL_HELP])


def _wrapped(names: str) -> list[str]:
    lines = [""]
    for name in names.split("|"):
        if len(lines[-1]) + len(name) > 60:
            lines[-1] += " |"
            lines.append("")
        lines[-1] += f" | {name}" if lines[-1] else name
    return lines
