"""When a reader slot is asked next, so that no worker turns in vain at the end of an epoch.

At the first turn past an epoch's length Bytewax ends it for a worker's slots, asked or not, and
then asks none of them before every worker has ended its own and stored it. A slot whose time comes
meanwhile is not asked, yet keeps its worker turning without a pause: with four workers under load a
third of a second of both cores, at the end of each epoch.

So all slots of a process name the same moment for its end, that each may be asked in the turn in
which it ends; and then they sleep for as long as the end takes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

UNSURE_S = 0.003
UNSURE_BUSY_S = 0.02
"""So much sooner than a slot knows an epoch can end: Bytewax takes the time as a turn begins, the
slot when its thread has got the interpreter's lock."""

CLOSING_S = 0.003
CLOSING_PER_PAGE_S = 150e-6
LONGEST_S = 0.4
"""How long an epoch's end takes, by the pages that are open, for these are stored: 0.2 to 0.3 s
with two thousand, on two busy cores."""


def utc_now() -> datetime:
    """The clock that Bytewax compares with."""
    return datetime.now(timezone.utc)


class EpochSchedule:
    """When the epoch of one process ends; shared by its slots, so by its worker threads.

    Args:
        length_s: Length of an epoch.
        now: The time.

    Attributes:
        latest: The number of the latest epoch that a slot has begun, and when it is over for all
            that have.
    """

    def __init__(self, length_s: float, now: Callable[[], datetime] = utc_now) -> None:
        self.length = timedelta(seconds=length_s)
        self.now = now
        self.latest = (0, now() + self.length)


class SlotSchedule:
    """One slot's view of the epoch; its first one begins now.

    Args:
        epoch: The process's.
    """

    def __init__(self, epoch: EpochSchedule) -> None:
        self._epoch = epoch
        self._number = -1
        self._asked_at = epoch.now()
        self.begin()

    def begin(self) -> None:
        """Note that Bytewax has begun an epoch for the slot."""
        self._number += 1
        self._own_end = self._epoch.now() + self._epoch.length
        self._epoch.latest = max(self._epoch.latest, (self._number, self._own_end))

    def asked(self) -> None:
        """Note that the slot is asked, in a turn that began before."""
        self._asked_at = self._epoch.now()

    def next(self, pause_s: float | None, open_pages: int) -> datetime | None:
        """When the slot is to be asked again.

        Args:
            pause_s: In how many seconds, were there no epochs; None for Bytewax's next turn.
            open_pages: Pages that are open in the process.
        """
        now, ends_at = self._epoch.now(), self._ends_at()
        if self._asked_at >= ends_at:  # in this very turn it ends
            closing_s = min(CLOSING_S + CLOSING_PER_PAGE_S * open_pages, LONGEST_S)
            return now + timedelta(seconds=max(pause_s or 0.0, closing_s))
        wake_at = now + timedelta(seconds=pause_s or 0.0)
        unsure = timedelta(seconds=UNSURE_BUSY_S if open_pages else UNSURE_S)
        if wake_at >= self._own_end - unsure:
            return ends_at
        return None if pause_s is None else wake_at

    def _ends_at(self) -> datetime:
        """The moment that all slots name: when the last of them that began it has had its length.

        A worker that began much later than this one is met half-way, epoch by epoch.
        """
        number, ends_at = self._epoch.latest
        if number != self._number:  # another has ended it already
            return self._own_end
        return min(ends_at, self._own_end + timedelta(seconds=LONGEST_S))
