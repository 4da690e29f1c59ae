"""Operations over two MCP servers, in a loop that would never end; a cap on one tool stops it."""

import sys

import tenuto

app = tenuto.App("ops")
app.mcp("monitor", [sys.executable, __file__, "--server", "monitor"], read_only=["health"])
app.mcp("deploy", [sys.executable, __file__, "--server", "deploy"], unknown="retry")
(
    app.workflow("heal", description="Restarts a service until it is healthy.")
    .budget(tool_calls=100, per_tool={"deploy.restart": 3})
    .tool("monitor.health", id="look", args={"service": "${input.service}"})
    .tool("deploy.restart", id="restart", args={"service": "${input.service}"})
    .transform("report", value="nodes.look.output")
    .edge("look", "restart", when="output.status != 'healthy'")
    .edge("restart", "look", max_iterations=50)
    .edge("look", "report", when="output.status == 'healthy'")
)


def serve(name: str) -> None:
    """Be one of the MCP servers."""
    from mcp.server import MCPServer

    server = MCPServer(name)
    if name == "monitor":

        @server.tool()
        def health(service: str) -> dict[str, str]:
            """Say how a service is; this one never gets well."""
            return {"service": service, "status": "failing"}

    else:

        @server.tool()
        def restart(service: str) -> dict[str, str]:
            """Restart a service."""
            return {"restarted": service}

    server.run()


async def main() -> None:
    """Heal a service that cannot be healed."""
    async with app.engine() as engine:
        ended = await engine.runs.execute("heal", {"service": "billing"})
        run = await engine.runs.get(ended.id)
        print(f"{run.status}: {run.error.message if run.error else ''}")
        print(f"restarts: {run.budget.spent['per_tool']['deploy.restart']}")


if __name__ == "__main__":
    if "--server" in sys.argv:
        serve(sys.argv[-1])
    else:
        tenuto.run(main())
