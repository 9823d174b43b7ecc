"""How often a bucket asks for its finished pages.

Bytewax has no way to be woken from outside, so a step that waits has to look; and each look costs
a worker about 0.1 ms of CPU, most of it in Bytewax.
"""

from __future__ import annotations

import time
from datetime import datetime, timezone

SHORTEST_S = 0.0003
LONGEST_S = 0.1
"""However long a service was away, its return is seen at once."""

SHARE = 0.02
"""What looking may add to the time that a page takes: a slow embedder is asked for more seldom, so
that waiting for it costs next to nothing."""

PER_PAGE_S = 20e-6
"""How much longer for each page that is open in the process: where two thousand wait in line, 40 ms
are nothing to one of them, and sixteen buckets that look all the time cost half a core."""


class PollInterval:
    """When one bucket looks next."""

    def __init__(self) -> None:
        self._moved_at = time.monotonic()

    def reset(self) -> None:
        """Note that a page came or went."""
        self._moved_at = time.monotonic()

    def next_poll(self, open_pages: int) -> datetime:
        """The time of the next look, by the clock that Bytewax compares it with.

        So rounded that buckets of one worker with like pauses look in the same turn of Bytewax.

        Args:
            open_pages: Pages that are open in the process.
        """
        waited_s = time.monotonic() - self._moved_at
        pause_s = min(max(SHORTEST_S, SHARE * waited_s) + PER_PAGE_S * open_pages, LONGEST_S)
        step_s = SHORTEST_S * 2.0 ** (int(pause_s / SHORTEST_S).bit_length() - 1)
        now_s = datetime.now(timezone.utc).timestamp()
        return datetime.fromtimestamp((now_s // step_s + 1) * step_s, timezone.utc)
