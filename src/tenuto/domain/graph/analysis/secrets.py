"""Keys and passwords that stand in a definition. No message shows more of one than tells which it is."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from tenuto.domain.graph.analysis.scene import Scene, texts_of
from tenuto.domain.graph.reading import pointer

_SHAPES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a key of Anthropic", re.compile(r"\bsk-ant-[A-Za-z0-9_-]{20,}")),
    ("a key of OpenAI", re.compile(r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}")),
    ("a key of Stripe", re.compile(r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}")),
    ("a key of AWS", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a key of Google", re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b")),
    ("a token of GitHub", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{40,})")),
    ("a token of GitLab", re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}")),
    ("a token of Slack", re.compile(r"\bxox[abeprs]-[A-Za-z0-9-]{10,}")),
    ("a webhook of Slack", re.compile(r"hooks\.slack\.com/services/T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]{16,}")),
    ("a token of Hugging Face", re.compile(r"\bhf_[A-Za-z0-9]{30,}")),
    ("a token of npm", re.compile(r"\bnpm_[A-Za-z0-9]{36}\b")),
    ("a key of SendGrid", re.compile(r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}")),
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----")),
    ("a signed token (JWT)", re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}")),
    ("a password in a URL", re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@$]+:[^\s/@$]{3,}@")),
    ("a credential", re.compile(r"(?i)^\s*(?:bearer|basic|token)\s+[A-Za-z0-9+/_.=-]{16,}\s*$")),
)
_NAMES = re.compile(
    r"(?i)(?:^|[_-])(?:pass(?:word|wd|phrase)?|secret|token|api[_-]?key|apikey|access[_-]?key|auth(?:orization)?|"
    r"credentials?|private[_-]?key)$"
)
_RANDOM = re.compile(r"[A-Za-z0-9+/_=-]{16,}")
_BITS = 3.0
_EXAMPLES = re.compile(r"(?i)example|sample|dummy|changeme|placeholder|your[_-]|<[^>]+>|x{4,}|\*{3,}|\.{3}")


def find_secrets(scene: Scene) -> None:
    """Report every text that is a key by its shape, or by its randomness in a field that is named like one."""
    definition, s = scene.definition, scene.subject
    given: list[tuple[Any, str]] = [(definition.metadata, "/metadata"), (definition.description, "/description")]
    for spot in s.spots:
        node = spot.node
        config = {key: value for key, value in node.config.items() if not (node.kind == "map" and key == "body")}
        given += [(config, pointer(spot.place, "config")), (node.input, pointer(spot.place, "input"))]
        given.append((node.description, pointer(spot.place, "description")))
    for level in s.levels:
        given += [(edge.when, pointer(level.place, "edges", at, "when")) for at, edge in enumerate(level.edges)]
    for value, place in given:
        for text, spot in texts_of(value, place):
            _look_at(scene, text, spot)


def secret_in(text: str) -> tuple[str, str] | None:
    """Return what kind of secret a text holds by its shape, and the secret; `None` when there is none."""
    for what, shape in _SHAPES:
        match = shape.search(text)
        if match is not None and not _EXAMPLES.search(match[0]):
            return what, match[0]
    return None


def _look_at(scene: Scene, text: str, place: str) -> None:
    if len(text) < 8:
        return
    if found := secret_in(text):
        what, secret = found
        scene.add("secret.literal", place, f"{what} stands here in full: {_masked(secret)}")
        return
    name = place.rsplit("/", 1)[-1]
    if _NAMES.search(name) and "${" not in text and _RANDOM.fullmatch(text) and _is_random(text):
        message = f"{name!r} holds {len(text)} characters that look random: {_masked(text)}"
        scene.add("secret.suspected", place, message)


def _is_random(text: str) -> bool:
    if _EXAMPLES.search(text) or not (re.search(r"\d", text) and re.search(r"[A-Za-z]", text)):
        return False
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values()) >= _BITS


def _masked(text: str) -> str:
    return text.lstrip()[:4] + "…"
