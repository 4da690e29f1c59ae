"""How knowledge bases are kept and searched."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from tenuto.settings.keys import between, key


def _embedding(value: str) -> str:
    if value in ("auto", "minilm") or re.fullmatch(r"hash:\d{2,5}|(?!hash:)[^:\s]+:\S+", value):
        return ""
    return "must be auto, minilm, hash:DIMENSIONS (such as hash:512) or provider:model"


def _url(value: str) -> str:
    parts = urlsplit(value)
    if not value or (parts.scheme in ("http", "https") and parts.netloc and not parts.password):
        return ""
    return "must read http://host:port/v1 or https://…, without a password"


@dataclass(frozen=True, kw_only=True)
class KnowledgeSettings:
    """Where bases are, and with which model they are searched."""

    dir: str = key("", "directory of the bases; empty is `knowledge` in the data directory")
    embedding: str = key("auto", "embedding model: auto, minilm, hash:DIMENSIONS or provider:model", _embedding)
    dimensions: int = key(0, "length of a vector; 0 takes what the model gives", between(0, 65_536))
    embedding_url: str = key("", "root of the server of a provider:model, such as http://127.0.0.1:11434/v1", _url)
    embedding_key_env: str = key("", "environment variable that holds that server's key")
    chunk_chars: int = key(1000, "most characters of a piece", between(100, 100_000))
    overlap_chars: int = key(150, "about how many characters of a piece the next one repeats", between(0, 10_000))
