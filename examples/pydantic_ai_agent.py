"""A pydantic-ai agent as a durable step: offline, with two tools and a budget.

Kill it half way and start it again: it goes on with the same run, and repeats no call that had an outcome.
"""

import sys

from pydantic_ai import Agent, ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

import tenuto
from tenuto.bridges.pydantic_ai import durable

CITIES = ("Oslo", "Rome")


def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Stand in for a model, so that the example needs no key: look up two cities, send, and report."""
    turn = sum(isinstance(message, ModelResponse) for message in messages)
    if turn < len(CITIES):
        return ModelResponse(parts=[ToolCallPart("weather", {"city": CITIES[turn]})])
    if turn == len(CITIES):
        return ModelResponse(parts=[ToolCallPart("send", {"text": "Rome is warmer."})])
    return ModelResponse(parts=[TextPart("I sent it: Rome is warmer.")])


agent = Agent(FunctionModel(script), name="reporter", instructions="Compare the weather and send the result.")


@agent.tool_plain(metadata={"effect": "idempotent"})  # made again if nobody knows whether it was made
def weather(city: str) -> str:
    """Return the weather of a city."""
    print(f"looking up {city}", file=sys.stderr, flush=True)
    return {"Oslo": "3 °C", "Rome": "18 °C"}[city]


@agent.tool_plain  # an effect: if its outcome is lost, a person is asked
def send(text: str) -> str:
    """Send a message."""
    print(f"sending {text!r}", file=sys.stderr)
    return "sent"


app = tenuto.App("weather")
report = durable(agent)
app.workflow("report").budget(tokens=100_000, tool_calls=10).step(report)

if __name__ == "__main__":
    question = {"prompt": "Is Rome warmer than Oslo?"}
    print(tenuto.run(app.run("report", question, business_key="rome-oslo")))  # one at a time: joins the one under way
