"""Knowledge bases at size: `python -m bench.knowledge [--chunks N] [--embedding NAME]` prints indexing, search and memory."""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path

from tenuto.ports.knowledge import Text
from tenuto.wiring import open_knowledge

STARTS = ("har", "fue", "cre", "moor", "tick", "led", "ship", "port")
ENDS = ("bour", "l", "w", "ing", "et", "ger", "yard", "al")
WORDS = [a + b for a in STARTS for b in ENDS]
QUERIES = 40


async def main(chunks: int, embedding: str) -> None:
    draw = random.Random(7)
    with tempfile.TemporaryDirectory() as place:
        known = open_knowledge(Path(place), embedding=embedding)
        texts = [Text(path=f"{n:06}", text=" ".join(draw.choices(WORDS, k=60))) for n in range(chunks)]
        before = time.perf_counter()
        for start in range(0, chunks, 1000):
            await known.index("default", "bench", "made", texts[start : start + 1000])
        took = time.perf_counter() - before
        del texts
        base = (await known.bases("default"))[0]
        print(f"index: {base.chunks:,} pieces with {base.embedding} in {took:.1f} s", end=" ")
        print(f"({base.chunks / took:,.0f}/s), {base.bytes / 2**20:.0f} MiB on disk")
        memory = _resident()
        before = time.perf_counter()
        await known.search("default", "the first search reads all vectors", "bench")
        print(f"first search: {(time.perf_counter() - before) * 1000:.0f} ms, memory +{_resident() - memory:.0f} MiB")
        for name, ask in (("search", known.search), ("lookup", known.lookup)):
            times: list[float] = []
            for _ in range(QUERIES):
                query = " ".join(draw.choices(WORDS, k=3))
                before = time.perf_counter()
                await ask("default", query, "bench", limit=5)
                times.append((time.perf_counter() - before) * 1000)
            times.sort()
            print(f"{name}: median {statistics.median(times):.1f} ms, worst of {QUERIES} {times[-1]:.1f} ms")


def _resident() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--embedding", default="hash:384")
    given = parser.parse_args()
    asyncio.run(main(given.chunks, given.embedding))
