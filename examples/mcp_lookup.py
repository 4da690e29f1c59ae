"""A workflow that looks things up on an MCP server; the server is in this file, too, and runs as its own process."""

import sys

import tenuto

app = tenuto.App("mcp-lookup")
app.mcp("books", [sys.executable, __file__, "--server"], read_only=["find"])
(
    app.workflow("lookup")
    .tool("books.find", id="find", args={"words": "${input.words}"})
    .agent("answer", prompt="Recommend one of these: ${nodes.find.output}", after="find")
)


def serve() -> None:
    """Be the MCP server."""
    from mcp.server import MCPServer

    server = MCPServer("books")
    shelf = {"Clean Sails": "sailing", "Knots for All": "sailing knots", "Bread at Dawn": "baking"}

    @server.tool()
    def find(words: str) -> list[str]:
        """Find books by what they are about."""
        return [title for title, about in shelf.items() if words in about]

    server.run()


if __name__ == "__main__":
    if "--server" in sys.argv:
        serve()
    else:
        print(tenuto.run(app.run("lookup", {"words": "sailing"})))
