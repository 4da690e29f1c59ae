"""Model providers of one's own on loopback: real HTTP, streaming, tool calls, bills, and faults by script.

    async with OpenAiServer([Answer(text="Paris", input_tokens=12, output_tokens=1)]) as server:
        ...  # point a provider at server.base_url
        assert [asked.key for asked in server.asked] == [...]

`python -m tenuto.testing.servers openai --script FILE --log FILE` runs one as a process of its own.
"""

from __future__ import annotations

from tenuto.testing.servers.anthropic import AnthropicServer
from tenuto.testing.servers.model_server import Asked, Bill, ModelServer
from tenuto.testing.servers.openai import OpenAiServer
from tenuto.testing.servers.script import Answer, Rates, Script, ToolUse, read_script

__all__ = [
    "Answer", "AnthropicServer", "Asked", "Bill", "ModelServer", "OpenAiServer", "Rates", "Script", "ToolUse",
    "read_script",
]  # fmt: skip
