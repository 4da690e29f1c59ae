"""Search for several questions at once, let three agents read what was found, write it up; all of it capped."""

import tenuto

NOTES = {
    "tides": "High water comes about every twelve and a half hours.",
    "ferries": "A ferry that waits for high water needs a timetable that moves with it.",
    "harbours": "A harbour that dries out at low water has locks, or mud.",
}

app = tenuto.App("research")


@app.tool(effect="pure")
def web_search(query: str) -> list[str]:
    """Search for a text; here, in a few notes."""
    return [text for word, text in NOTES.items() if word in query.lower()]


(
    app.workflow("research-swarm")
    .budget(tokens=50_000, tool_calls=100, per_tool={"web_search": 20}, wall_clock_s=300)
    .map(
        "searches", "${input.questions}",
        app.body().tool(web_search, id="search", args={"query": "${item}"}), concurrency=4,
    )
    .agent("readers", "swarm", n=3, prompt="What follows from ${nodes.searches.output}?", after="searches")
    .agent("write", prompt="Write a report from ${nodes.readers.output.branches}", after="readers")
)

if __name__ == "__main__":
    questions = ["how do tides work", "which ferries wait", "what do harbours do at low water"]
    print(tenuto.run(app.run("research-swarm", {"questions": questions})))
