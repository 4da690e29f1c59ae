"""Research over the bundled documents: plan, search, a swarm that reads, one that writes; capped throughout."""

from __future__ import annotations

import re
from typing import Any

from tenuto.bundled import examples_documents as documents
from tenuto.bundled.examples_model import OfflineModel
from tenuto.ports.model import ModelReply, ModelRequest
from tenuto.sdk.app import App

MODEL = "offline:researcher"
SEARCHES = 20
_ANGLES = ("risks of", "costs of", "dates and notice in", "who answers for", "what happened with")
_PLAN = {
    "type": "object",
    "properties": {"questions": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
    "required": ["questions"],
}
_DEPTH = re.compile(r"^Questions: (\d+)$", re.MULTILINE)
_TOPIC = re.compile(r"^Topic: (.+)$", re.MULTILINE)


def register(app: App) -> None:
    """Add the workflow `research-swarm`, its tool and its model."""
    app.model(MODEL, OfflineModel(_answer))
    app.tool(effect="pure")(web_search)
    search = app.body().tool(web_search, id="search", args={"query": "${item}"})
    (
        app.workflow("research-swarm", description="Plans, searches, reads with three agents at once, and writes.")
        .input_schema({
            "type": "object",
            "properties": {
                "topic": {"type": "string", "minLength": 1}, "questions": {"type": "integer", "minimum": 1},
            },
            "required": ["topic"],
        })
        .budget(tokens=50_000, tool_calls=100, per_tool={"web_search": SEARCHES}, wall_clock_s=300)
        .step(brief)
        .agent(
            "plan", "pipeline", model=MODEL, schema=_PLAN, after="brief",
            prompt="Topic: ${nodes.brief.output.topic}\nQuestions: ${nodes.brief.output.questions}",
        )
        .map("searches", "${nodes.plan.output.data.questions}", search, concurrency=4, after="plan")
        .agent(
            "swarm", "swarm", n=3, model=MODEL, tools=[web_search], after="searches",
            prompt="Topic: ${nodes.brief.output.topic}\nFound: ${nodes.searches.output}",
        )
        .agent(
            "write", "pipeline", model=MODEL, after="swarm",
            prompt="Topic: ${nodes.brief.output.topic}\nNotes: ${nodes.swarm.output.branches}",
        )
    )


def brief(topic: str, questions: int = 3) -> dict[str, Any]:
    """Settle what is asked, and in how many parts."""
    return {"topic": topic, "questions": questions}


def web_search(query: str, limit: int = 3) -> list[dict[str, Any]]:
    """Search for documents; this one searches those that come with the package.

    Args:
        query: What to look for.
        limit: Most results.
    """
    return documents.search(query, limit)


def _answer(prompt: str, request: ModelRequest) -> ModelReply:
    topic = _first(_TOPIC, prompt, "the topic")
    if request.schema is not None:
        wanted = int(_first(_DEPTH, prompt, "3"))
        questions = [f"{_ANGLES[at % len(_ANGLES)]} {topic}" for at in range(wanted)]
        return ModelReply(content=f"{wanted} questions", data={"questions": questions})
    titles = list(dict.fromkeys(re.findall(r'"title":"([^"]+)"', prompt)))
    if titles:
        chosen = titles[request.seed % len(titles)]
        return ModelReply(content=f"On {topic}, '{chosen}' matters most of {len(titles)} documents.")
    notes = len(re.findall(r"matters most", prompt))
    return ModelReply(content=f"{topic}: a report from {notes} readings. " + prompt.partition("Notes: ")[2][:400])


def _first(pattern: re.Pattern[str], text: str, default: str) -> str:
    match = pattern.search(text)
    return match[1] if match else default
