"""A step in plain Python: calls that are made once, a sleep that survives restarts, retries of what fails."""

import tenuto

app = tenuto.App("reminders")


@app.step(retry=tenuto.Retry(attempts=5, backoff_s=0.2))
async def remind(ctx: tenuto.Context, name: str, times: int) -> list[str]:
    """Send some reminders, a while apart."""
    sent: list[str] = []
    for number in range(times):
        sent.append(await ctx.call(compose, name, number))  # recorded: a restart goes on after it
        await ctx.sleep(0.1)  # holds no worker, however long
    if ctx.attempt == 1:
        raise RuntimeError("a fault after the work: the next attempt repeats none of the calls")
    return sent


def compose(name: str, number: int) -> str:
    """Write one reminder."""
    print(f"composing reminder {number}")
    return f"Dear {name}, this is reminder {number + 1}."


app.workflow("remind").step(remind)

if __name__ == "__main__":
    print(tenuto.run(app.run("remind", {"name": "Ada", "times": 2})))
