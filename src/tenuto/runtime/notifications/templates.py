"""What an e-mail says: templates in a sandbox, the shipped ones or an operator's own.

A template that cannot be read, or that asks for what does not exist, is found when it is loaded, not when it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import msgspec
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tenuto.errors import InvalidSettings, Permanent, Problem

NAMES = ("subject.txt", "text.txt", "html.html")
SHIPPED_HERE = files("tenuto.runtime.notifications").joinpath("shipped")
LONGEST = 200_000
FAULTS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError)


class TemplateFailed(Permanent):
    """A message could not be made of its template."""

    code = "notification.template"


class Mail(msgspec.Struct, frozen=True):
    """An e-mail as it reads; `html` may be empty."""

    subject: str
    text: str
    html: str = ""


class Contents(dict[str, Any]):
    """What a run's own data holds: nobody knows before what is in it, so that what is not there is empty."""

    def __missing__(self, name: str) -> Contents:
        """Return nothing, in which nothing is again."""
        return Contents()

    def __str__(self) -> str:
        """Return the text of a template for it; nothing reads as nothing."""
        return super().__str__() if self else ""


def opened(value: Any) -> Any:
    """Return data of a run as templates may ask for it."""
    if isinstance(value, dict):
        return Contents({str(name): opened(item) for name, item in cast("dict[Any, Any]", value).items()})
    return [opened(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


class Templates:
    """A subject, a text and a page, each of which may be an operator's own."""

    def __init__(self, folder: Path | None = None) -> None:
        """Read the templates that a folder holds, and the shipped ones for those it does not.

        A folder with a text of its own and without a page sends no page: the shipped one would say something else.

        Raises:
            InvalidSettings: With everything that is wrong with them.
        """
        problems: list[Problem] = []
        self._found: dict[str, Template | None] = {}
        own = {name for name in NAMES if folder is not None and (folder / name).is_file()}
        if folder is not None and not own:
            problems.append(Problem(str(folder), f"holds none of {', '.join(NAMES)}", code="settings.template"))
        for name in NAMES:
            dropped = name == "html.html" and "text.txt" in own and name not in own
            source = folder / name if folder is not None and name in own else SHIPPED_HERE.joinpath(name)
            self._found[name] = None if dropped else _read(name, source, problems)
        if not problems:
            problems = [fault for sample in _samples() for fault in self._try(sample, folder)]
        if problems:
            raise InvalidSettings("a template of messages is wrong", problems=tuple(dict.fromkeys(problems)))

    def _try(self, sample: Mapping[str, Any], folder: Path | None) -> list[Problem]:
        found: list[Problem] = []
        for name, template in self._found.items():
            try:
                if template is not None:
                    template.render(_filled(sample))
            except FAULTS as error:
                place = str(folder / name) if folder is not None else name
                found.append(Problem(place, f"cannot be filled in for a ticket that is {sample['event']}: {error}",
                                     code="settings.template"))  # fmt: skip
        return found

    def render(self, values: Mapping[str, Any]) -> Mail:
        """Return the e-mail for some values; its subject is one line.

        Raises:
            TemplateFailed: A template cannot be filled in for these.
        """
        try:
            subject, text, html = (
                template.render(_filled(values))[:LONGEST] if template is not None else "" for template in self._found.values()
            )
        except FAULTS as error:
            raise TemplateFailed(f"a template cannot be filled in: {type(error).__name__}") from error
        return Mail(" ".join(subject.split())[:500], text.strip() + "\n", html)


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with the run's own data made open."""
    ticket = values["ticket"]
    return {**values, "ticket": {**ticket, "data": opened(ticket["data"]), "answer": opened(ticket["answer"] or {})}}


def _read(name: str, source: Any, problems: list[Problem]) -> Template | None:
    sandbox = ImmutableSandboxedEnvironment(
        autoescape=name.endswith(".html"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    try:
        return sandbox.from_string(source.read_text(encoding="utf-8"))
    except TemplateError as error:
        line = f", line {error.lineno}" if getattr(error, "lineno", None) else ""  # type: ignore[attr-defined]
        problems.append(Problem(f"{source}{line}", f"is no template: {error}", code="settings.template"))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(str(source), f"cannot be read: {type(error).__name__}", code="settings.template"))
    return None


def _samples() -> list[dict[str, Any]]:
    """Return values as they come, for every event, with all there may be and with nothing that may be missing."""
    full: dict[str, Any] = {
        "id": "tk-1", "kind": "approval", "state": "open", "run": "r", "step": "s", "workflow": "w", "message": "Well?",
        "data": {"input": {"a": 1}}, "approvers": ["ada", "group:heads"], "quorum": 2, "reject_quorum": 1, "decision": "approve",
        "by": "ada", "reason": "fine", "answer": {"b": 2}, "created_at": "2026-01-31T12:00:00Z",
        "expires_at": "2026-02-01T12:00:00Z", "decided_at": None, "on_timeout": "reject", "choices": ["approve", "reject"],
    }  # fmt: skip
    empty: dict[str, Any] = {
        **full, **dict.fromkeys(("decision", "by", "reason", "answer", "expires_at", "on_timeout")), "step": "", "data": {},
        "approvers": [], "quorum": 1, "choices": [],
    }
    links = [{"decision": "approve", "url": "https://x/approve"}, {"decision": "reject", "url": "https://x/reject"}]
    everything = ["message", "data", "reason", "answer"]
    rich: dict[str, Any] = {"ticket": full, "person": "ada", "show": everything, "links": links, "page": "https://x/"}
    bare: dict[str, Any] = {"ticket": empty, "person": "", "show": [], "links": [], "page": ""}
    return [{**values, "event": event} for values in (rich, bare) for event in
            ("opened", "expiring", "escalated", "decided", "closed")]  # fmt: skip


SHIPPED = Templates()
