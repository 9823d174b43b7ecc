"""The log line `Upsert OK`: one per bulk, at most one per second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from connectors.observability import logs

PERIOD_S = 1.0
MAX_NAMED_PAGES = 3
MAX_ID_CHARS = 60


class UpsertLog:
    """Logs acknowledged rows; combines the calls within one second into one line.

    Used on the event loop only.

    Args:
        log: The logger.
        clock: Monotonic seconds, for tests.
        call_later: Calls a function after a number of seconds; default: on the running loop.
    """

    def __init__(
        self,
        log: logs.Logger,
        clock: Callable[[], float] = time.monotonic,
        call_later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._call_later = call_later or _on_running_loop
        self._count = 0
        self._named: list[str] = []
        self._logged_at = float("-inf")
        self._is_scheduled = False

    def add(self, page_ids: Sequence[str]) -> None:
        """Add acknowledged rows."""
        self._count += len(page_ids)
        if (room := MAX_NAMED_PAGES - len(self._named)) > 0:
            self._named += page_ids[:room]
        if self._is_scheduled:
            return
        wait_s = self._logged_at + PERIOD_S - self._clock()
        if wait_s <= 0:
            self.flush()
        else:
            self._is_scheduled = True
            self._call_later(wait_s, self._on_time)

    def flush(self) -> None:
        """Log the rows that are not logged yet; also called at the end of the process."""
        count, named = self._count, self._named
        if not count:
            return
        self._count, self._named = 0, []
        self._logged_at = self._clock()
        self._log.info("Upsert OK", count=count, pages=_names(named, count))

    def _on_time(self) -> None:
        self._is_scheduled = False
        self.flush()


def _on_running_loop(delay_s: float, function: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(delay_s, function)


def _names(named: Sequence[str], count: int) -> str:
    shown = [p if len(p) <= MAX_ID_CHARS else p[: MAX_ID_CHARS - 1] + "…" for p in named]
    more = count - len(named)
    return ", ".join(shown) + (f", +{more}" if more else "")
