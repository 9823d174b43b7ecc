"""The log line `Upsert OK`: one a bulk, at most one a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from connectors.observability import logs

PAUSE_S = 1.0
NAMED_PAGES = 3
LONGEST_ID = 60
"""Characters of a page id that a line shows."""


class UpsertLog:
    """Says which rows were acknowledged; sums them up where a line each would be too many.

    Used on the event loop only.

    Args:
        log: Where lines go.
        clock: Seconds, for tests.
        later: Calls a function after so many seconds; by default, on the running loop.
    """

    def __init__(
        self,
        log: logs.Logger,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._later = later or _on_running_loop
        self._count = 0
        self._named: list[str] = []
        self._said_at = float("-inf")
        self._timed = False

    def add(self, page_ids: Sequence[str]) -> None:
        """Note acknowledged rows."""
        self._count += len(page_ids)
        if (room := NAMED_PAGES - len(self._named)) > 0:
            self._named += page_ids[:room]
        if self._timed:
            return
        pause = self._said_at + PAUSE_S - self._clock()
        if pause <= 0:
            self.flush()
        else:
            self._timed = True
            self._later(pause, self._on_time)

    def flush(self) -> None:
        """Say what is not said yet; also at the end of the process."""
        count, named = self._count, self._named
        if not count:
            return
        self._count, self._named = 0, []
        self._said_at = self._clock()
        self._log.info("Upsert OK", count=count, pages=_names(named, count))

    def _on_time(self) -> None:
        self._timed = False
        self.flush()


def _on_running_loop(delay_s: float, function: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(delay_s, function)


def _names(named: Sequence[str], count: int) -> str:
    shown = [p if len(p) <= LONGEST_ID else p[: LONGEST_ID - 1] + "…" for p in named]
    more = count - len(named)
    return ", ".join(shown) + (f", +{more}" if more else "")
