"""How often a bucket polls for its finished pages.

Nothing outside Bytewax can wake a step, so a step that waits polls; each poll costs a worker about
0.1 ms of CPU, most of it in Bytewax.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone

MIN_INTERVAL_S = 0.0003
MAX_INTERVAL_S = 0.1
"""A bucket notices the end of any outage within this time."""

INTERVAL_PER_WAIT = 0.02
"""The interval as a share of the wait so far: polling delays a page by at most 2 %."""

INTERVAL_PER_PAGE_S = 20e-6
"""What each open page of the process adds. Two thousand open pages make 40 ms, which one page
hardly notices, while sixteen buckets that poll all the time use half a core."""


class PollInterval:
    """The poll interval of one bucket."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def reset(self) -> None:
        """Note that a page was received or finished."""
        self._since = time.monotonic()

    def next_poll(self, open_pages: int) -> datetime:
        """Return the time of the next poll, by the wall clock that Bytewax compares it with.

        The times are rounded, so that buckets of one worker with similar intervals poll in the
        same iteration of Bytewax.

        Args:
            open_pages: The open pages of the process.
        """
        waited_s = time.monotonic() - self._since
        interval_s = max(MIN_INTERVAL_S, INTERVAL_PER_WAIT * waited_s)
        interval_s = min(interval_s + INTERVAL_PER_PAGE_S * open_pages, MAX_INTERVAL_S)
        step_s = MIN_INTERVAL_S * 2.0 ** (int(interval_s / MIN_INTERVAL_S).bit_length() - 1)
        now_s = datetime.now(timezone.utc).timestamp()
        return datetime.fromtimestamp((now_s // step_s + 1) * step_s, timezone.utc)
