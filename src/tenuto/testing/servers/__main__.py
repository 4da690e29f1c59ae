"""A scripted provider as a process: prints its address as one line, serves until its input ends or it is ended."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from tenuto.testing.servers import AnthropicServer, OpenAiServer, read_script

KINDS = {"openai": OpenAiServer, "anthropic": AnthropicServer}


async def _serve(args: argparse.Namespace) -> None:
    script = read_script(args.script) if args.script else None
    async with KINDS[args.kind](script, log=args.log, port=args.port, secret=args.secret) as server:
        print(server.base_url, flush=True)
        gone = asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
        await gone


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m tenuto.testing.servers", description=__doc__)
    parser.add_argument("kind", choices=sorted(KINDS), help="the protocol to speak")
    parser.add_argument("--script", type=Path, help="JSON file of answers; without one it echoes")
    parser.add_argument("--log", type=Path, help="file that gets a JSON line for each request and each bill")
    parser.add_argument("--port", type=int, default=0, help="port on loopback; 0 takes a free one")
    parser.add_argument("--secret", default="", help="the key requests must show")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
