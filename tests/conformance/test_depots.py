"""The depots pass the suite of all depots: memory, a directory, a bucket, one after another, and each of them sealed."""

from __future__ import annotations

import base64
import itertools
import os
from collections.abc import AsyncIterator
from http.client import HTTPConnection
from pathlib import Path
from typing import cast

import pytest

from tenuto.adapters.objects.chain import DepotChain
from tenuto.adapters.objects.disk import DiskDepot
from tenuto.adapters.objects.memory import MemoryDepot
from tenuto.adapters.stores.memory import MemoryStore
from tenuto.adapters.stores.sealed import Masters, SealedDepot, SealedStore
from tenuto.errors import Corrupt
from tenuto.ports.artifacts import Depot
from tenuto.ports.store import Store
from tenuto.testing.conformance.depots import DepotSuite, MakeDepot
from tenuto.wiring import open_depot

_numbers = itertools.count(1)


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> MakeDepot:
    """A bucket of the test's own."""
    name = f"depot-{os.getpid()}-{next(_numbers)}"
    link = HTTPConnection(s3_server.removeprefix("http://"))
    link.request("PUT", f"/{name}")
    assert link.getresponse().status == 200
    link.close()
    monkeypatch.setenv("TENUTO_TEST_S3", "a-key")
    return lambda: open_depot(
        f"s3://{name}/kept/here", endpoint=s3_server, access_key="env:TENUTO_TEST_S3", secret_key="env:TENUTO_TEST_S3"
    )


class TestMemoryDepot(DepotSuite):
    @pytest.fixture
    def make_depot(self) -> MakeDepot:
        depot = MemoryDepot()
        return lambda: depot


class TestDiskDepot(DepotSuite):
    @pytest.fixture
    def make_depot(self, tmp_path: Path) -> MakeDepot:
        return lambda: open_depot(f"file://{tmp_path}/de%20pot")

    async def test_files_are_their_owners_alone(self, depot: Depot, tmp_path: Path) -> None:
        given = tmp_path / "given"
        given.touch(0o600)
        given.write_bytes(b"x")
        await depot.keep("default", "default/ab/one.1", given)
        root = tmp_path / "de pot"
        for path in (root, root / "default", root / "default/ab", root / "default/ab/one.1"):
            assert path.stat().st_mode & 0o077 == 0, path
        assert [path.name for path in root.rglob("*.*")] == ["one.1"], "and nothing is left over"

    async def test_another_disk_without_links_does_as_well(self, depot: Depot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
        (tmp_path / "given").write_bytes(b"abc")
        await depot.keep("default", "default/ab/one.1", tmp_path / "given")
        (tmp_path / "given").write_bytes(b"changed")
        assert b"".join([p async for p in depot.read("default", "default/ab/one.1", 3, 0, 3)]) == b"abc"


class TestS3Depot(DepotSuite):
    @pytest.fixture
    def make_depot(self, bucket: MakeDepot) -> MakeDepot:
        return bucket


class TestDepotChain(DepotSuite):
    @pytest.fixture
    def make_depot(self, tmp_path: Path, bucket: MakeDepot) -> MakeDepot:
        return lambda: DepotChain([bucket(), DiskDepot(tmp_path / "former")])

    async def test_what_a_former_depot_has_is_read_and_dropped_there(self, depot: Depot, tmp_path: Path) -> None:
        (tmp_path / "given").write_bytes(b"old")
        former = DiskDepot(tmp_path / "former")
        await former.keep("default", "default/ab/old.1", tmp_path / "given")
        assert await depot.has("default/ab/old.1")
        assert b"".join([p async for p in depot.read("default", "default/ab/old.1", 3, 0, 3)]) == b"old"
        await depot.drop(["default/ab/old.1"])
        assert not await former.has("default/ab/old.1")


class _Sealed(DepotSuite):
    inner: Depot

    @pytest.fixture
    async def store(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SealedStore]:
        monkeypatch.setenv("TENUTO_TEST_KEY", base64.b64encode(bytes(range(32))).decode())
        opened = SealedStore(cast("Store", MemoryStore()), Masters(["env:TENUTO_TEST_KEY"]))
        await opened.open()
        yield opened
        await opened.inner.close()

    async def test_nothing_of_it_can_be_read_or_exchanged(self, depot: Depot, tmp_path: Path) -> None:
        """No piece is in the clear; one that is altered, moved, repeated or left out is refused."""
        canary = b"canary-5f" * 100_000
        (tmp_path / "given").write_bytes(canary)
        for place in ("default/ab/one.1", "default/ab/two.1"):
            await depot.keep("default", place, tmp_path / "given")
        inner = cast("SealedDepot", depot).inner
        sealed = len(canary) + 4 * 51
        stored = b"".join([p async for p in inner.read("default", "default/ab/one.1", sealed, 0, sealed)])
        assert b"canary" not in stored
        piece = (1 << 18) + 51
        other = b"".join([p async for p in inner.read("default", "default/ab/two.1", sealed, 0, sealed)])
        wrong = {
            "altered": stored[:100] + bytes([stored[100] ^ 1]) + stored[101:],
            "moved": stored[piece : 2 * piece] + stored[:piece] + stored[2 * piece :],
            "repeated": stored[:piece] + stored[:piece] + stored[2 * piece :],
            "of another": other,
            "plain": canary + b"x" * 4 * 51,
        }
        for what, content in wrong.items():
            (tmp_path / what).write_bytes(content)
            await inner.drop(["default/ab/one.1"])
            await inner.keep("default", "default/ab/one.1", tmp_path / what)
            with pytest.raises(Corrupt):
                _ = [p async for p in depot.read("default", "default/ab/one.1", len(canary), 0, len(canary))]


class TestSealedMemoryDepot(_Sealed):
    @pytest.fixture
    def make_depot(self, store: SealedStore) -> MakeDepot:
        inner = MemoryDepot()
        return lambda: SealedDepot(inner, store)


class TestSealedS3Depot(_Sealed):
    @pytest.fixture
    def make_depot(self, store: SealedStore, bucket: MakeDepot) -> MakeDepot:
        return lambda: SealedDepot(bucket(), store)
