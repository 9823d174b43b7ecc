"""The probe, which detects that an abandoned RAG service responds again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 15.0
"""Pauses between two probes: each is twice as long as the previous one, up to the longest."""


class Probe:
    """Sends the latest abandoned notification again, in the background, until the service responds.

    It delays no page, and it detects the recovery even if no new pages arrive. Use it on one event
    loop only.

    Args:
        send: Sends a body and reports the outcome. It calls `stop` if the service responds.
        first_pause_s: Seconds before the first probe.
    """

    def __init__(
        self, send: Callable[[bytes], Awaitable[None]], first_pause_s: float = FIRST_PAUSE_S
    ) -> None:
        self._send = send
        self._first_pause_s = first_pause_s
        self._page_id = ""
        self._body = b""  # empty: nothing to send
        self._in_flight = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self, page_id: str, body: bytes) -> None:
        """Send this notification from now on, instead of an earlier one."""
        self._page_id, self._body = page_id, body
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        """Send nothing more."""
        self._body = b""

    async def drop(self, page_id: str) -> None:
        """Stop if the probe's notification is of this page; wait while it is in flight.

        Otherwise an older vector of the page could arrive after a newer one.
        """
        if self._body and self._page_id == page_id:
            self.stop()
            async with self._in_flight:
                pass

    async def _run(self) -> None:
        pause_s = self._first_pause_s
        while True:
            await asyncio.sleep(pause_s)
            if not self._body:
                return
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            async with self._in_flight:
                await self._send(self._body)
