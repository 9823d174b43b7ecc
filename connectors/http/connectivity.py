"""Whether services can be reached at all, before the first page needs them; for `/readyz`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from yarl import URL

from connectors.runtime.event_loop import EventLoop

TIMEOUT_S = 5.0
PAUSE_S = 2.0


class Reach:
    """Connects to each service once, without a request, and tries again until it could.

    Args:
        event_loop: The loop on which it does.
        urls: The services' URLs, by name.
    """

    def __init__(self, event_loop: EventLoop, urls: Mapping[str, str]) -> None:
        self._event_loop = event_loop
        self._missing = {name: URL(url, encoded=True) for name, url in urls.items()}

    def start(self) -> None:
        """Begin, in the background; from any thread."""
        for name in list(self._missing):
            self._event_loop.call(lambda name=name: self._event_loop.spawn(self._reach(name)))

    def missing(self) -> list[str]:
        """The services that could not be reached yet."""
        return list(self._missing)

    async def _reach(self, name: str) -> None:
        url = self._missing[name]
        while not await _connects(url.host or "", url.port or 80):  # noqa: ASYNC110 - no event here
            await asyncio.sleep(PAUSE_S)
        del self._missing[name]


async def _connects(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), TIMEOUT_S)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True
