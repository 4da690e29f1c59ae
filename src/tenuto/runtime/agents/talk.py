"""A conversation so far: what was said, what goes to the model of it, and what it amounts to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tenuto.domain.base.canonical import canonical_json
from tenuto.ports.model import Message, ModelReply
from tenuto.runtime.agents.roles import Role


@dataclass(slots=True)
class Talk:
    """One conversation. It is rebuilt from recorded calls alone, so every attempt sees the same.

    Attributes:
        head: What every request begins with, after the system's words.
        rounds: Each reply with what was answered to it.
        texts: What the model said, in order.
        asked: Rounds in which it asked for tools.
        tools: The newest result of each tool.
        calls: Calls made.
        bad: Calls that could not be made.
        children: Agents asked as tools.
        hands: Times the conversation changed hands.
        fallen: How many models chosen for the node have not answered.
        advice: What a person wrote and the model has not been told yet.
    """

    role: Role
    head: list[Message]
    rounds: list[list[Message]] = field(default_factory=list[list[Message]])
    texts: list[str] = field(default_factory=list[str])
    asked: int = 0
    tools: dict[str, Any] = field(default_factory=dict[str, Any])
    calls: int = 0
    bad: int = 0
    children: int = 0
    hands: int = 0
    fallen: int = 0
    advice: str = ""

    def messages(self, history: int) -> tuple[Message, ...]:
        """Return what is sent: the first messages and the newest rounds; an answer never comes without its call."""
        system = [Message("system", self.role.system)] if self.role.system else []
        newest = [message for item in self.rounds[-history:] for message in item]
        return (*system, *self.head, *newest)

    def add(self, reply: ModelReply, answers: list[Message]) -> None:
        """Add a reply and what was answered to it."""
        content = reply.content or ("" if reply.data is None else text_of(reply.data))
        spoken = Message("assistant", content, tool_calls=reply.tool_calls, details=reply.details)
        self.rounds.append([spoken, *answers])

    def tell(self, text: str) -> None:
        """Add words of the user's to what is sent from now on."""
        message = Message("user", text)
        if self.rounds:
            self.rounds[-1].append(message)
        else:
            self.head.append(message)

    def so_far(self, reason: str) -> dict[str, Any] | None:
        """Return the work as it stands, for when it ends early; `None` when there is nothing yet."""
        if not self.texts and not self.tools:
            return None
        return {
            "content": "\n\n".join(text for text in self.texts if text), "tools": dict(self.tools),
            "partial": True, "reason": reason,
        }


def text_of(value: Any) -> str:
    """Return a value as a model reads it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else canonical_json(value).decode()
