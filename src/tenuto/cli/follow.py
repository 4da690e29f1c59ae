"""A run's events as they happen: server-sent events, taken up again after the last one when a connection drops."""

from __future__ import annotations

from tenuto.cli.client import Client, path_of
from tenuto.cli.errors import ApiError, Unreachable
from tenuto.cli.runs import TERMINAL, current
from tenuto.cli.values import loads, obj

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

ABSORBING = ("run.completed", "run.cancelled")
FINAL = (*ABSORBING, "run.failed", "run.budget_exceeded")
SILENCE_S = 60.0
GIVE_UP_AFTER = 20
_ERRORS = ("failed", "exceeded", "diverged", "retrying", "lost", "dead_lettered", "unknown", "overrun")


class Follower:
    """Iterates over one run's events until the run has ended; `run` then reads the run as it ended."""

    def __init__(
        self,
        client: Client,
        run_id: str,
        *,
        after: str = "",
        notify: Callable[[str], None],
        sleep: Callable[[float], None],
    ) -> None:
        """Start after event `after`, or with the first.

        Args:
            notify: Told when the connection is lost.
            sleep: Waits before another try; given so that tests need not wait.
        """
        self._client = client
        self._run_id = run_id
        self._last = after
        self._notify = notify
        self._sleep = sleep
        self.run: dict[str, Any] = {}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield every event once, in order.

        Raises:
            ApiError: The run is unknown or its events are pruned.
            Unreachable: The server stayed away too long.
        """
        failures = 0
        while True:
            n_seen = 0
            try:
                for event in self._connection():
                    failures = 0
                    n_seen += 1
                    yield event
                    if event.get("type") in FINAL and self._has_ended(event):
                        return
                if self._has_ended(None if n_seen else {}):
                    return
                failure = "The stream ended early"
            except Unreachable as error:
                failure = error.message
                if failures >= GIVE_UP_AFTER or (not failures and not self._last and not error.sent):
                    raise
            except ApiError as error:
                if error.status not in (429, 502, 503, 504) or failures >= GIVE_UP_AFTER:
                    raise
                failure = error.message
            failures += 1
            if failures > 1 or not n_seen:
                if failures == 2:
                    self._notify(f"{failure.rstrip('.')}; trying again.")
                self._sleep(min(5.0, 0.1 * 2**failures))

    def _connection(self) -> Iterator[dict[str, Any]]:
        headers = ["Accept: text/event-stream"]
        if self._last:
            headers.append(f"Last-Event-ID: {self._last}")
        path = path_of("runs", self._run_id, "stream")
        response = self._client.open("GET", path, headers=headers, timeout_s=SILENCE_S)
        try:
            for identity, data in parse(response.lines()):
                if identity:
                    self._last = identity
                if data:
                    yield data
        finally:
            response.close()

    def _has_ended(self, event: dict[str, Any] | None) -> bool:
        """Ask the run itself: a stopped run may have been reopened, and more events then follow.

        Args:
            event: The event that says it ended; `None` when the stream just stopped, empty when it brought nothing.
        """
        self.run = current(self._client, self._run_id)
        if self.run.get("status") not in TERMINAL:
            return False
        if not event:
            return event is not None or self._is_at_head()
        return event["type"] in ABSORBING or self._is_at_head()

    def _is_at_head(self) -> bool:
        head = self.run.get("seq")
        seq = self._last.partition(".")[0]
        return not isinstance(head, int) or not seq.isdigit() or int(seq) >= head


def parse(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `(id, data)` of each server-sent event; comments and events that are not JSON objects carry nothing.

    Raises:
        ApiError: The server says that the stream cannot go on.
    """
    identity, name_of_event, data = "", "", list[str]()
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                identity = value
            elif name == "event":
                name_of_event = value
            elif name == "data":
                data.append(value)
            continue
        found = _object("\n".join(data))
        if name_of_event == "problem":
            raise ApiError(int(found.get("status") or 500), found)
        if data:
            yield identity, found
        identity, name_of_event, data = "", "", []


def _object(text: str) -> dict[str, Any]:
    try:
        return obj(loads(text.encode()))
    except ValueError:
        return {}


def is_error(event: dict[str, Any]) -> bool:
    """Report whether an event says that something went wrong."""
    data = obj(event.get("data"))
    kind = str(event.get("type", ""))
    return kind.endswith(_ERRORS) or bool(data.get("error")) or data.get("level") in ("error", "critical")


def concerns(event: dict[str, Any], node: str) -> bool:
    """Report whether an event is about a node, any pass or item of it included, or about a step by its id or name."""
    step = str(event.get("step") or "")
    return node in (event.get("node"), step, event.get("name")) or step.startswith(f"{node}~")
