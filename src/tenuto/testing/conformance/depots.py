"""The suite every depot of artifacts must pass.

Subclass `DepotSuite` in a test module and override its fixture `make_depot`, which says how to make a depot.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tenuto.ports.artifacts import BytesMissing, Depot

MakeDepot = Callable[[], Depot]
LONG = 20_000_003
"""Longer than what any depot handles in one piece, and no multiple of one."""


async def _read(depot: Depot, place: str, size: int, start: int = 0, stop: int | None = None) -> bytes:
    stop = size if stop is None else stop
    return b"".join([piece async for piece in depot.read("default", place, size, start, stop)])


class DepotSuite:
    """What a depot promises, as tests. A subclass provides the fixture `make_depot`."""

    @pytest.fixture
    def make_depot(self) -> MakeDepot:
        """Return what makes a depot, always with the same bytes of the test's own."""
        raise NotImplementedError("a subclass of DepotSuite provides the fixture make_depot")

    @pytest.fixture
    def depot(self, make_depot: MakeDepot) -> Depot:
        """A depot."""
        return make_depot()

    @pytest.fixture
    def file(self, tmp_path: Path) -> Callable[[bytes], Path]:
        """Return what makes a file."""

        def make(content: bytes) -> Path:
            path = tmp_path / f"file-{len(os.listdir(tmp_path))}"
            path.write_bytes(content)
            return path

        return make

    @pytest.mark.parametrize("content", [b"", b"x", b"\x00\xff" * 5000, b"s" * (1 << 18), b"t" * ((1 << 18) + 1)])
    async def test_bytes_come_back(
        self, make_depot: MakeDepot, depot: Depot, file: Callable[[bytes], Path], content: bytes
    ) -> None:
        """Every byte, for another process, too; and the file that was given stays."""
        given = file(content)
        await depot.keep("default", "default/ab/one.1", given)
        assert await _read(make_depot(), "default/ab/one.1", len(content)) == content
        assert given.read_bytes() == content

    async def test_long_bytes_come_in_pieces_and_in_parts(self, depot: Depot, file: Callable[[bytes], Path]) -> None:
        """What is long is never handed over in one piece; any part of it can be read."""
        content = os.urandom(LONG)
        await depot.keep("default", "default/ab/long.1", file(content))
        size, whole = len(content), bytearray()
        async for piece in depot.read("default", "default/ab/long.1", size, 0, size):
            assert isinstance(piece, bytes)
            whole += piece
        assert whole == content
        for start, stop in ((0, 1), (size - 1, size), (262_143, 262_145), (5_000_000, 13_000_001), (7, 7), (size, size)):
            assert await _read(depot, "default/ab/long.1", size, start, stop) == content[start:stop], (start, stop)

    async def test_what_is_not_there_is_missing(self, depot: Depot, file: Callable[[bytes], Path]) -> None:
        """Reading nothing is an error of its own, and so is reading on after the end."""
        assert not await depot.has("default/ab/none.1")
        for size in (0, 1, 100):
            with pytest.raises(BytesMissing):
                await _read(depot, "default/ab/none.1", size)
        await depot.keep("default", "default/ab/one.1", file(b"abc"))
        assert await depot.has("default/ab/one.1")
        with pytest.raises(Exception, match=r"one\.1"):
            await _read(depot, "default/ab/one.1", 4)

    async def test_dropped_bytes_are_gone_and_others_stay(self, depot: Depot, file: Callable[[bytes], Path]) -> None:
        """Dropping is idempotent, also for places where nothing ever was."""
        for name in ("one", "two"):
            await depot.keep("default", f"default/ab/{name}.1", file(name.encode()))
        for _ in range(2):
            await depot.drop(["default/ab/one.1", "default/cd/never.1"])
        assert not await depot.has("default/ab/one.1")
        assert await _read(depot, "default/ab/two.1", 3) == b"two"
        await depot.drop([])

    async def test_many_at_once(self, depot: Depot, file: Callable[[bytes], Path]) -> None:
        """Writers and readers of different places do not disturb each other."""
        files = [file(b"%d" % n * 1000) for n in range(20)]
        await asyncio.gather(*(depot.keep("default", f"default/ab/{n}.1", one) for n, one in enumerate(files)))
        found = await asyncio.gather(
            *(_read(depot, f"default/ab/{n}.1", one.stat().st_size) for n, one in enumerate(files))
        )
        assert found == [one.read_bytes() for one in files]
