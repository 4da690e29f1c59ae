"""Telling calls that wait for room under a shared cap that there is some."""

from __future__ import annotations

from tenuto.domain.runs.messages import Funds, encode_message
from tenuto.ports.store import Store


async def tell_of_room(store: Store) -> None:
    """Send a message to every run with a call there is room for now.

    A message is sent once for each telling, so that a crash between taking and sending costs a delay, not a wake-up:
    the store returns whoever was told and did not answer again.
    """
    for waiter in await store.take_waiters():
        want = waiter.want
        body = encode_message(Funds(step=want.step, call=want.call))
        answer = await store.send(waiter.run, f"funds/{want.step}/{want.call}/{waiter.told_at}", body)
        if answer in ("terminal", "missing"):
            await store.drop_waiters(waiter.run)
