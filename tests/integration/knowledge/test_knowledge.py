"""Knowledge bases through the surfaces people and agents use: Python, HTTP, the command line's files, tools."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from tenuto import App
from tenuto.adapters.knowledge.chunks import cut
from tenuto.api.app import create_app
from tenuto.api.auth import Auth
from tenuto.errors import InvalidSettings
from tenuto.ports.knowledge import EmbeddingFailed, EmbeddingMismatch, KnowledgeMissing, KnowledgeName, Text
from tenuto.runtime.services.knowledge import KnowledgeBases
from tenuto.runtime.tools.builtin.kit import Kit
from tenuto.settings import Settings
from tenuto.wiring import open_knowledge

TOKEN = "t" * 20
PAGES = {
    "fuel.md": "# Fuel\n\nFuel prices rise in winter. OrderService.total() adds the surcharge.",
    "cats.md": "# Cats\n\nCats sleep for sixteen hours a day.",
}


@pytest.fixture
def pages(tmp_path: Path) -> Path:
    found = tmp_path / "handbook"
    (found / "sub").mkdir(parents=True)
    for name, text in PAGES.items():
        (found / name).write_text(text)
    (found / "sub" / "deep.txt").write_text("Moorings are paid by the metre.")
    return found


def bases(tmp_path: Path, embedding: str = "hash:256", **options: Any) -> KnowledgeBases:
    return KnowledgeBases(open_knowledge(tmp_path / "kb", embedding=embedding, **options), "default")


# --- indexing ------------------------------------------------------------------------------------------------------


async def test_files_are_indexed_once_and_only_what_changed_again(tmp_path: Path, pages: Path):
    known = bases(tmp_path)
    first = await known.index_files("docs", pages)
    assert (first.added, first.changed, first.unchanged, first.removed) == (3, 0, 0, 0)
    (pages / "fuel.md").write_text("Fuel is free in spring.")
    (pages / "cats.md").unlink()
    second = await known.index_files("docs", pages)
    assert (second.added, second.changed, second.unchanged, second.removed) == (0, 1, 1, 1)
    assert [hit.path for hit in await known.lookup("cats")] == []
    assert [hit.path for hit in await known.lookup("winter")] == []
    assert [hit.path for hit in await known.search("fuel in spring", "docs", limit=1)] == ["fuel.md"]
    assert [(doc.source, doc.path) for doc in (await known.documents("docs")).items] == [
        ("handbook", "fuel.md"), ("handbook", "sub/deep.txt"),
    ]  # fmt: skip
    listed = (await known.list())[0]
    assert (listed.name, listed.embedding, listed.dimensions, listed.documents) == ("docs", "hash:256", 256, 2)


async def test_an_unchanged_document_is_not_embedded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    known = bases(tmp_path)
    await known.index("docs", "s", [Text(path="a", text="one"), Text(path="b", text="two")])
    from tenuto.adapters.knowledge.embeddings import Hashed

    seen: list[str] = []
    real = Hashed.embed
    monkeypatch.setattr(Hashed, "embed", lambda self, texts: seen.extend(texts) or real(self, texts))
    await known.index("docs", "s", [Text(path="a", text="one"), Text(path="b", text="three")])
    assert seen == ["three"]


async def test_an_indexing_that_is_cut_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tenuto.adapters.knowledge.embeddings import Hashed

    known = bases(tmp_path)
    texts = [Text(path=f"p{n:04}", text=f"page number {n}") for n in range(600)]
    real, calls = Hashed.embed, [0]

    def cut_short(self: Any, given: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise EmbeddingFailed("the power is gone")
        return real(self, given)

    monkeypatch.setattr(Hashed, "embed", cut_short)
    with pytest.raises(EmbeddingFailed):
        await known.index("docs", "s", texts)
    done = (await known.list())[0].documents
    assert 0 < done < 600
    again = await known.index("docs", "s", texts)
    assert (again.unchanged, again.added) == (done, 600 - done)


async def test_what_is_no_text_is_skipped_and_said(tmp_path: Path, pages: Path):
    (pages / "image.png").write_bytes(b"\x89PNG\0\0")
    (pages / "latin.txt").write_bytes("é".encode("latin-1"))
    (tmp_path / "secret.txt").write_text("nobody's business")
    (pages / "link.txt").symlink_to(tmp_path / "secret.txt")
    (pages / ".hidden").write_text("hidden")
    done = await bases(tmp_path).index_files("docs", pages)
    assert dict(done.skipped) == {"image.png": "is no text", "latin.txt": "is no UTF-8 text", "link.txt": "is a link"}
    assert done.added == 3


@pytest.mark.parametrize("name", ["", "../x", "A", "x/y", "x" * 65, ".db", "-a", "a b", "a\x00"])
async def test_a_base_cannot_be_named_like_a_path(tmp_path: Path, name: str):
    known = bases(tmp_path)
    with pytest.raises(KnowledgeName, match="no name of a knowledge base"):
        await known.index(name, "s", [Text(path="a", text="x")])
    assert not (tmp_path / "kb").exists()


async def test_every_fault_of_the_documents_is_told_at_once(tmp_path: Path):
    texts = [Text(path="", text="x"), Text(path="a", text="x"), Text(path="a", text="y"), Text(path="b", digest="zz")]
    with pytest.raises(KnowledgeName) as caught:
        await bases(tmp_path).index("docs", "s\n", texts)
    assert [problem.place for problem in caught.value.problems] == [
        "/source", "/documents/0/path", "/documents/2/path", "/documents/3/digest",
    ]  # fmt: skip


async def test_an_unknown_base_or_source_is_named_with_the_nearest(tmp_path: Path):
    known = bases(tmp_path)
    await known.index("docs", "s", [Text(path="a", text="x")])
    with pytest.raises(KnowledgeMissing, match="did you mean 'docs'"):
        await known.search("x", "doks")
    with pytest.raises(KnowledgeMissing, match="no source 'q'"):
        await known.delete("docs", "q")


async def test_a_base_that_was_deleted_and_made_anew_shows_nothing_of_the_old_one(tmp_path: Path):
    known, other = bases(tmp_path), bases(tmp_path)
    await known.index("docs", "s", [Text(path="a", text="old fuel")])
    assert [hit.text for hit in await other.search("fuel", "docs")] == ["old fuel"]
    assert await known.delete("docs") == 1
    await known.index("docs", "s", [Text(path="a", text="new fuel")])
    assert [hit.text for hit in await other.search("fuel", "docs")] == ["new fuel"]


async def test_namespaces_are_apart(tmp_path: Path):
    port = open_knowledge(tmp_path / "kb", embedding="hash:256")
    await KnowledgeBases(port, "a").index("docs", "s", [Text(path="x", text="fuel")])
    assert await KnowledgeBases(port, "b").list() == []
    assert await KnowledgeBases(port, "b").search("fuel") == []


# --- searching -----------------------------------------------------------------------------------------------------


async def test_look_ups_need_all_words_and_exact_ones_the_very_text(tmp_path: Path, pages: Path):
    known = bases(tmp_path)
    await known.index_files("docs", pages)
    assert [hit.path for hit in await known.lookup("prices fuel")] == ["fuel.md"]
    assert await known.lookup("fuel cats") == []
    assert [hit.path for hit in await known.lookup("OrderService.total()", exact=True)] == ["fuel.md"]
    assert [hit.path for hit in await known.lookup("rderService.tot", exact=True)] == ["fuel.md"]
    assert await known.lookup("orderservice.total()", exact=True) == []
    for odd in ('"', "NEAR(", "a AND", "*", "-", "col:x", "') --", "()"):
        assert await known.lookup(odd) == []
    assert [hit.path for hit in await known.lookup("()", exact=True)] == ["fuel.md"]


async def test_the_packaged_model_finds_meaning_where_words_differ(tmp_path: Path):
    known = bases(tmp_path, "minilm")
    texts = {"meal": "A person is having lunch.", "stock": "Shares fell sharply.", "sea": "The ship left the harbour."}
    await known.index("docs", "s", [Text(path=name, text=text) for name, text in texts.items()])
    assert (await known.list())[0].dimensions == 384
    for query, path in (("somebody eats food", "meal"), ("the market crashed", "stock"), ("a boat sails away", "sea")):
        assert (await known.search(query))[0].path == path


async def test_another_model_than_the_bases_own_is_refused_with_what_to_do(tmp_path: Path):
    await bases(tmp_path).index("docs", "s", [Text(path="a", text="x")])
    other = bases(tmp_path, "hash:128")
    for act in (other.search("x"), other.index("docs", "s", [Text(path="b", text="y")])):
        with pytest.raises(EmbeddingMismatch, match=r"'hash:256' .256 dimensions.*'hash:128'.*index it again"):
            await act
    assert [hit.path for hit in await other.lookup("x")] == ["a"]


def test_an_embedding_that_cannot_be_is_refused_at_the_start(tmp_path: Path):
    for embedding, options, match in (
        ("word2vec", {}, "use auto"), ("hash:x", {}, "use auto"), ("ollama:nomic", {}, "embedding_url"),
        ("hash:256", {"dimensions": 128}, "gives 256"), ("hash:256", {"chunk_chars": 100, "overlap_chars": 60}, "less than half"),
    ):  # fmt: skip
        with pytest.raises(InvalidSettings, match=match):
            open_knowledge(tmp_path, embedding=embedding, **options)


class _Embeddings(BaseHTTPRequestHandler):
    """A server that speaks OpenAI's protocol; what it was asked is kept."""

    asked: list[tuple[str, Any]] = []
    width = 4

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        _Embeddings.asked.append((self.headers.get("authorization", ""), body))
        rows = [
            {"index": n, "embedding": [float("fuel" in text), float("cat" in text), 0.1] + [0.0] * (_Embeddings.width - 3)}
            for n, text in enumerate(body["input"])
        ]
        answer = json.dumps({"data": rows[::-1]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


async def test_a_model_behind_an_address_is_asked_in_openais_words(tmp_path: Path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Embeddings)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        known = bases(tmp_path, "local:nomic", url=url, key="sk-canary")
        await known.index("docs", "s", [Text(path="a", text="cats"), Text(path="b", text="fuel")])
        assert [hit.path for hit in await known.search("fuel", limit=1)] == ["b"]
        assert _Embeddings.asked[0] == ("Bearer sk-canary", {"model": "nomic", "input": ["cats", "fuel"]})
        _Embeddings.width = 6
        with pytest.raises(EmbeddingFailed, match=r"knowledge\.dimensions"):
            await known.search("fuel")
        with pytest.raises(EmbeddingMismatch, match="6 dimensions"):
            await bases(tmp_path, "local:nomic", url=url, dimensions=6).search("fuel")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(EmbeddingFailed, match="does not answer") as caught:
        await known.search("fuel")
    assert "canary" not in str(caught.value)


# --- cutting -------------------------------------------------------------------------------------------------------


def test_pieces_hold_every_word_end_at_sentences_and_lap_over():
    text = "\n\n".join(" ".join(f"Sentence {p}.{s} says a thing." for s in range(20)) for p in range(5))
    pieces = list(cut(text, 300, 60))
    assert all(len(piece) <= 300 for _, piece in pieces)
    assert all(text[start : start + len(piece)] == piece for start, piece in pieces)
    assert all(piece.endswith(".") for _, piece in pieces)
    covered = set().union(*(range(start, start + len(piece)) for start, piece in pieces))
    assert all(at in covered or text[at].isspace() for at in range(len(text)))
    assert all(later < start + len(piece) for (start, piece), (later, _) in zip(pieces, pieces[1:], strict=False))


@pytest.mark.parametrize("text", ["", "   \n", "x" * 5000, "日本" * 900, "a\n\n" * 1000])
def test_any_text_is_cut_to_an_end(text: str):
    pieces = list(cut(text, 200, 80))
    assert sum(len(piece) for _, piece in pieces) >= len("".join(text.split()))
    assert all(piece.strip() and len(piece) <= 200 for _, piece in pieces)


# --- tools ---------------------------------------------------------------------------------------------------------


async def test_agents_search_what_was_indexed(tmp_path: Path, pages: Path):
    app = App("t")
    flow = app.workflow("w")
    flow.tool("search_knowledge", id="near", args={"query": "price of fuel", "limit": 1})
    flow.tool("lookup_type", id="word", args={"query": "moorings", "database": "docs"})
    flow.tool("lookup", id="none", args={"query": "nothing of the sort"})
    kit = Kit(knowledge=open_knowledge(tmp_path / "kb", embedding="hash:256"))
    async with app.engine("memory:", kit=kit) as engine:
        await engine.knowledge.index_files("docs", pages)
        view = await engine.runs.result((await engine.runs.start("w", {})).id, timeout_s=20)
    assert view.status == "completed", view.error
    assert [hit["path"] for hit in view.output["near"]["hits"]] == ["fuel.md"]
    assert [hit["path"] for hit in view.output["word"]["hits"]] == ["sub/deep.txt"]
    assert view.output["none"] == {"hits": []}


# --- HTTP and the command line --------------------------------------------------------------------------------------


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    kit = Kit(knowledge=open_knowledge(tmp_path / "kb", embedding="hash:256"))
    async with App("t").engine("memory:", kit=kit, worker=False) as engine:
        app = create_app(engine, Settings(data_dir=str(tmp_path), token=TOKEN), auth=Auth(TOKEN))
        headers = {"authorization": f"Bearer {TOKEN}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321/api/v1", headers=headers) as made:
            yield made


async def test_http_indexes_lists_searches_and_deletes(client: httpx.AsyncClient):
    documents = [{"path": name, "text": text} for name, text in PAGES.items()]
    done = await client.post("/knowledge/docs/index", json={"source": "pages", "documents": documents})
    assert (done.status_code, done.json()["added"]) == (200, 2)
    asked = [{"path": "fuel.md", "digest": "0" * 64}]
    answer = (await client.post("/knowledge/docs/index", json={"source": "pages", "documents": asked})).json()
    assert answer["missing"] == ["fuel.md"]
    assert [base["name"] for base in (await client.get("/knowledge")).json()["items"]] == ["docs"]
    assert (await client.get("/knowledge/docs/sources")).json()["items"][0]["documents"] == 2
    first = (await client.get("/knowledge/docs/documents?limit=1")).json()
    second = (await client.get(f"/knowledge/docs/documents?limit=1&cursor={first['next_cursor']}")).json()
    assert [page["items"][0]["path"] for page in (first, second)] == ["cats.md", "fuel.md"]
    assert second["next_cursor"] is None
    for mode, query in (("meaning", "fuel in winter"), ("words", "winter"), ("exact", "OrderService.total()")):
        found = await client.post("/knowledge/search", json={"query": query, "mode": mode, "database": "docs"})
        assert found.json()["hits"][0]["path"] == "fuel.md"
    assert (await client.delete("/knowledge/docs?source=pages")).json() == {"documents": 2}
    assert (await client.delete("/knowledge/docs")).json() == {"documents": 0}
    assert (await client.get("/knowledge/docs/sources")).status_code == 404


async def test_http_takes_no_path_of_the_server_and_no_stranger(client: httpx.AsyncClient):
    refused = await client.post("/knowledge/docs/index", json={"source": "s", "path": "/etc"})
    assert refused.status_code == 422
    named = await client.post("/knowledge/..%2Fx/index", json={"source": "s", "documents": [{"path": "a", "text": "x"}]})
    assert named.status_code in (404, 422)
    assert (await client.get("/knowledge/docs/documents?cursor=!!")).status_code in (404, 422)
    del client.headers["authorization"]
    assert (await client.get("/knowledge")).status_code == 401
