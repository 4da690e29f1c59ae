"""A supervisor agent sends a customer's request to the right desk; the branches meet again in the answer."""

import tenuto

app = tenuto.App("triage")


@app.step
def intake(intent: str) -> str:
    """Bring what a customer wrote into one form."""
    return intent.strip().lower()


@app.tool(effect="pure")
def lookup_policy(topic: str) -> str:
    """Look up what the house has decided on a topic."""
    return {"refund": "Unused tickets are refunded within two weeks."}.get(topic, "We answer within a day.")


(
    app.workflow("triage")
    .step(intake)
    .agent(
        "classify", "supervisor", prompt="Which desk takes care of: ${nodes.intake.output}?",
        choices=["other", "refund", "technical"], after="intake",
    )
    .tool(lookup_policy, id="refund", args={"topic": "refund"})
    .agent("technical", prompt="What went wrong here: ${nodes.intake.output}?")
    .agent("other", prompt="Summarise: ${nodes.intake.output}")
    .agent("answer", system="Write to the customer. What is known:", after=["refund", "technical", "other"])
    .edge("classify", "refund", when="output.decision == 'refund'")
    .edge("classify", "technical", when="output.decision == 'technical'")
    .edge("classify", "other", when="output.decision == 'other'")
)

if __name__ == "__main__":
    print(tenuto.run(app.run("triage", {"intent": "refund"})))
