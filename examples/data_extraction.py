"""Read a text into a record: the agent's answer must fit the schema, is corrected once, or fails clearly."""

from dataclasses import dataclass

import tenuto

app = tenuto.App("extraction")


@dataclass
class Invoice:
    """What an invoice must say."""

    supplier: str
    total_cents: int
    lines: list[str]


@app.step
def book(invoice: Invoice) -> str:
    """Take an invoice into the books."""
    return f"{invoice.supplier}: {invoice.total_cents} cents in {len(invoice.lines)} lines"


(
    app.workflow("data-extraction")
    .agent("extract", prompt="Read this invoice: ${input.text}", schema=Invoice)
    .step(book, input="${nodes.extract.output.data}", after="extract")
)

if __name__ == "__main__":
    print(tenuto.run(app.run("data-extraction", {"text": "Saltmark Coatings, one hull, EUR 840.00"})))
