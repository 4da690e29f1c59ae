"""A graph that changes while it runs, and gets better between runs: eight chapters, each checked, on a server of its own.

`python examples/adaptive` plays everything by itself; with `--ask` you decide the agent's patch in this terminal.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stage import ENOUGH, Stage, clean

from tenuto.bundled.demo_screen import Screen

BROKEN = {"letter": "My parcel of order A-17 came broken, and a cup is missing."}
WHOLE = {"letter": "My parcel of order B-42 came late."}


class Story:
    """The chapters, each told on what the ones before left."""

    def __init__(self, stage: Stage, *, asks: bool) -> None:
        """Tell it on a stage."""
        self.stage, self.screen, self._asks = stage, stage.screen, asks
        self.first = self.patch_id = ""

    def tell(self) -> None:
        """Tell everything, in order."""
        self.screen.title("Adaptive graphs", "agents, people and optimizers change a workflow; nothing is lost")
        chapters = {
            "A run starts": self.start,
            "Its agent wants to look closer, and proposes two nodes": self.patch,
            "A person sees the difference": self.difference,
            "… and approves it in the terminal; the next step runs on the new graph": self.approve,
            "Paths: a claim is paid, others are declined": self.paths,
            "An optimizer fuses two requests, for the runs to come": self.optimize,
            "A second run takes half of its results from the cache": self.reuse,
            "The whole story replays": self.replay,
        }
        for n, (title, part) in enumerate(chapters.items(), 1):
            self.screen.chapter(n, title)
            part()

    def start(self) -> None:
        """Start the run of a broken parcel."""
        self.stage.tenuto("run", "start", "claims", "--input", json.dumps(BROKEN))
        self.first = self.stage.newest()
        self.stage.until(self.first, waits_at="patch")
        self.stage.tenuto("run", "steps", self.first)
        *done, last = self.stage.told("run", "steps", self.first)["items"]
        told = [step["node"] for step in done if step["status"] == "completed"]
        self.stage.promise("four steps are done, and the fifth, an agent, waits", len(told) == 4 and last["node"] == "assess")

    def patch(self) -> None:
        """See what its agent proposes."""
        self.stage.tenuto("patch", "list", self.first)
        (patch,) = self.stage.told("patch", "list", self.first)["items"]
        self.stage.promise("it waits for a person, and holds no worker", patch["status"] == "open")
        self.stage.promise("it is the agent's", patch["author"] == "agent")
        self.patch_id = patch["id"]

    def difference(self) -> None:
        """Show what would change."""
        self.stage.tenuto("patch", "show", self.first, self.patch_id)
        added = self.stage.told("patch", "show", self.first, self.patch_id)["difference"]["nodes_added"]
        self.stage.promise("two nodes are added: photos and damage", sorted(added) == ["damage", "photos"])

    def approve(self) -> None:
        """Decide it, and see the graph change under the run."""
        ticket = self.stage.until(self.first, waits_at="patch")["id"]
        if self._asks:
            command = [sys.executable, "-m", "tenuto", "approve", ticket, "--as", "grace"]
            subprocess.run(command, cwd=self.stage.place, env=clean(), check=True)
        else:
            self.stage.tenuto("approve", ticket, "approve", "--as", "grace", "--reason", "720 g do not vanish")
        signs = self.stage.until(self.first, waits_at="sign")
        self.stage.tenuto("run", "steps", self.first)
        steps = [step["node"] for step in self.stage.told("run", "steps", self.first)["items"]]
        follows = steps.index("photos") == steps.index("assess") + 1
        self.stage.promise("the nodes ran in the same run, right after the agent", follows)
        self.stage.promise("what they found changed the verdict: " + signs["message"], "12900" in signs["message"])

    def paths(self) -> None:
        """Pay one; decline one that is owed nothing, and one whose patch a person turned down."""
        self.stage.tenuto("approve", self.stage.until(self.first, waits_at="sign")["id"], "approve", "--as", "ada")
        paid = self.ended(self.first)
        self.stage.promise("signed: 129 EUR are paid", paid["output"]["pay"]["refund_cents"] == 12_900)
        whole = self.claim(WHOLE)
        self.stage.promise("nothing was broken: declined, and nobody was asked", "decline" in whole["output"])
        run = self.stage.told("run", "start", "claims", "--input", json.dumps(BROKEN))["id"]
        ticket = self.stage.until(run, waits_at="patch")["id"]
        self.stage.tenuto("approve", ticket, "reject", "--as", "grace", "--reason", "we have seen these photographs")
        turned_down = self.ended(run)
        self.stage.promise("without its patch that run kept to its graph, and declined", "decline" in turned_down["output"])

    def claim(self, claim: dict[str, Any]) -> dict[str, Any]:
        """Play a claim that nobody has to look at, and return how it ended."""
        return self.ended(self.stage.call("/runs", {"workflow": "claims", "input": claim})["id"])

    def claims(self, what: str) -> list[dict[str, Any]]:
        """Play as many claims as it takes to say how long they take."""
        found: list[dict[str, Any]] = []
        for n in range(ENOUGH):
            found.append(self.claim({"letter": f"My parcel of order B-42 came {n + 2} days late."}))
            self.screen.progress(n + 1, ENOUGH, what)
        return found

    def ended(self, run: str) -> dict[str, Any]:
        """Return a run once it has ended, and insist that it completed."""
        view = self.stage.call(f"/runs/{run}?wait=30")
        if view["status"] != "completed":
            raise SystemExit(f"run {run} ended as {view['status']}: {view.get('error')}")
        return view

    def optimize(self) -> None:
        """Let an optimizer look at what runs took, approve what it proposes, and measure what that saved."""
        before = self.claims("claims, to see what they take")
        self.stage.tenuto("workflow", "stats", "claims")
        self.stage.tenuto("optimize", "claims", "--optimizer", "fuse_http", "--dry-run")
        self.stage.promise("a dry run stores nothing", not self.proposals())
        self.decide_proposals("fuse_http", "the same answers in fewer steps")
        after = self.claims("claims on the new graph")
        change = self.stage.measured("claims")
        self.stage.tenuto("optimize", "claims", "--gains")
        outputs = [[run["output"]["decline"]["refund_cents"] for run in runs] for runs in (before, after)]
        self.stage.promise("runs to come have a new version, 1.1, and come to the same", outputs[0] == outputs[1])
        self.stage.promise("one step fewer, as expected", change["measured"]["steps"] == change["expected"]["steps"] == 1)
        self.stage.promise(f"the median run takes {change['measured']['ms']:.0f} ms less", change["measured"]["ms"] > 0)

    def proposals(self) -> list[dict[str, Any]]:
        """Return what waits for a decision about the runs to come."""
        found = self.stage.told("patch", "list", "--workflow", "claims")["items"]
        return [proposal for proposal in found if proposal["status"] == "proposed"]

    def decide_proposals(self, optimizer: str, reason: str) -> None:
        """Ask an optimizer and approve what it proposes, one after the other: each is made for the version before it."""
        while True:
            self.stage.tenuto("optimize", "claims", "--optimizer", optimizer, quiet=True)
            found = self.proposals()
            if not found:
                return
            self.stage.tenuto("patch", "approve", found[0]["id"], "--as", "grace", "--reason", reason)

    def reuse(self) -> None:
        """Keep what pure steps come to, and play the same claim twice."""
        self.decide_proposals("mark_cacheable", "they follow from the letter alone")
        once, again = self.claim(WHOLE), self.claim(WHOLE)
        self.stage.tenuto("run", "steps", again["id"])
        self.stage.tenuto("cache", "stats")
        steps = [step for step in self.stage.told("run", "steps", again["id"])["items"] if step["status"] == "completed"]
        cached = [step["node"] for step in steps if (step.get("cache") or {}).get("how") == "hit"]
        said = f"{len(cached)} of {len(steps)} results are from the cache: {', '.join(cached)}"
        self.stage.promise(said, len(cached) * 2 == len(steps))
        self.stage.tenuto("artifact", "list", again["id"])
        digests = [run["output"]["decline"]["answer"] for run in (once, again)]
        self.stage.tenuto("artifact", "get", digests[1])
        self.stage.promise("both wrote the same letter: one artifact", digests[0] == digests[1])

    def replay(self) -> None:
        """Replay the first run from its second step, with the graph it had by then."""
        self.stage.tenuto("replay", self.first, "--from", "topics", "--mode", "freeze")
        again = self.stage.newest()
        before, after = self.ended(self.first), self.ended(again)
        self.stage.tenuto("run", "diff", self.first, again)
        self.stage.promise("the same output, through the nodes that the agent added", before["output"] == after["output"])
        self.stage.tenuto("audit", "verify", self.first)


def main() -> int:
    """Tell the story in a folder of its own, and return whether all of it held."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--ask", action="store_true", help="decide the agent's patch yourself")
    options.add_argument("--place", type=Path, help="folder to leave everything in; default: one that is removed")
    given = options.parse_args()
    with ExitStack() as closing:
        place = given.place or Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="tenuto-adaptive-")))
        place.mkdir(parents=True, exist_ok=True)
        story = Story(Stage(place, Screen(), closing), asks=given.ask)
        story.tell()
        return 1 if story.stage.failed else 0


if __name__ == "__main__":
    sys.exit(main())
