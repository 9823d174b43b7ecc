"""When a reader slot is asked next, so that no worker turns in vain at the end of an epoch.

At the first turn past an epoch's length Bytewax ends it for all slots of a worker, asked or not,
and then asks none of them before every worker has ended its own and stored it. A slot whose time
comes meanwhile is not asked, yet keeps its worker turning without a pause: with four workers under
load a third of a second of both cores, at the end of each epoch.

So all slots of a process name the same moment for its end, that each may be asked in the turn in
which it ends; and then they sleep for as long as the end takes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

UNSURE_S = 0.003
UNSURE_BUSY_S = 0.02
"""How much sooner than by its slots' clocks a worker's epoch can end: Bytewax takes the time as a
turn begins, a slot when it has got the interpreter's lock."""

CLOSING_S = 0.003
CLOSING_PER_PAGE_S = 150e-6
CLOSING_LONGEST_S = 0.4
"""How long an epoch's end takes, by the pages that are open: all of them are stored. Two thousand
took 0.33 s, half of it spent on turning in vain."""


def utc_now() -> datetime:
    """The clock that Bytewax compares with."""
    return datetime.now(timezone.utc)


class EpochClock:
    """When the epoch of one process ends; shared by its slots, so by its worker threads.

    Args:
        length_s: Length of an epoch.
        now: The time.
    """

    def __init__(self, length_s: float = 10.0, now: Callable[[], datetime] = utc_now) -> None:
        self.length = timedelta(seconds=length_s)
        self.now = now
        self.ends_at = now() + self.length

    def slot(self) -> SlotClock:
        """What one slot keeps of it."""
        return SlotClock(self)


class SlotClock:
    """One slot's view of the epoch, which begins now.

    Args:
        epoch: The process's.
    """

    def __init__(self, epoch: EpochClock) -> None:
        self._epoch = epoch
        self.begin()

    def begin(self) -> None:
        """Note that Bytewax has begun an epoch for the slot."""
        # As the last of them puts it, so that at this moment it is over for all.
        self._own_end = self._epoch.ends_at = self._epoch.now() + self._epoch.length

    def next(self, pause_s: float | None, open_pages: int) -> datetime | None:
        """When the slot is to be asked.

        Args:
            pause_s: In how many seconds, were there no epochs; None for Bytewax's next turn.
            open_pages: Pages that are open in the process.
        """
        now, ends_at = self._epoch.now(), self._epoch.ends_at
        if ends_at > self._own_end + self._epoch.length / 2:
            ends_at = self._own_end  # another slot has ended its own already
        if now >= ends_at:  # in this very turn it ends
            closing_s = min(CLOSING_S + CLOSING_PER_PAGE_S * open_pages, CLOSING_LONGEST_S)
            return now + timedelta(seconds=max(pause_s or 0.0, closing_s))
        wake_at = now + timedelta(seconds=pause_s or 0.0)
        unsure = timedelta(seconds=UNSURE_BUSY_S if open_pages else UNSURE_S)
        if wake_at >= self._own_end - unsure:
            return ends_at
        return None if pause_s is None else wake_at
