"""When a reader slot is polled around the end of an epoch, so that no worker busy-waits.

Bytewax ends an epoch for all slots of a worker, in the first iteration of the worker's loop after
the epoch's length. It polls none of the slots again until every worker has ended its epoch and the
epoch is stored. A slot whose poll is due in that time is not polled, but its worker loops without a
pause: with four workers under load, for a third of a second on both cores in each epoch.

So all slots of a process schedule one common end of the epoch, and are polled in the iteration that
ends it. Then they sleep for as long as the end takes. With four workers, the loops of a process
made 110,000 iterations in that third of a second, and make 9,000 in the rest of four seconds
(`make bench ARGS="--only free"`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

MARGIN_S = 0.003
BUSY_MARGIN_S = 0.02
"""How much earlier than a slot computes an epoch may end: Bytewax reads the clock when its
iteration starts, and the slot when its thread has the interpreter's lock."""

CLOSING_S = 0.003
CLOSING_PER_PAGE_S = 150e-6
CLOSING_MAX_S = 0.4
"""How long the end of an epoch takes, by open pages, because they are stored: 0.2 to 0.3 s with
2,000 pages on two busy cores."""


def utc_now() -> datetime:
    """Return the time by the clock that Bytewax compares with."""
    return datetime.now(timezone.utc)


class EpochSchedule:
    """The epochs of one process; its slots, and so its worker threads, share it.

    Args:
        length_s: Length of an epoch.
        now: Returns the time.

    Attributes:
        latest: The number of the latest epoch that a slot has begun, and when it ends for all slots
            that have begun it.
    """

    def __init__(self, length_s: float, now: Callable[[], datetime] = utc_now) -> None:
        self.length = timedelta(seconds=length_s)
        self.now = now
        self.latest = (0, now() + self.length)


class SlotSchedule:
    """The epochs of one slot; the first one begins now.

    Args:
        epoch: The epochs of the process.
    """

    def __init__(self, epoch: EpochSchedule) -> None:
        self._epoch = epoch
        self._number = -1
        self._polled_at = epoch.now()
        self.begin()

    def begin(self) -> None:
        """Note that Bytewax has begun an epoch for the slot."""
        self._number += 1
        self._own_end = self._epoch.now() + self._epoch.length
        self._epoch.latest = max(self._epoch.latest, (self._number, self._own_end))

    def polled(self) -> None:
        """Note that Bytewax polls the slot, in an iteration that has already started."""
        self._polled_at = self._epoch.now()

    def next_poll(self, pause_s: float | None, open_pages: int) -> datetime | None:
        """Return when Bytewax should poll the slot next; None: on its next iteration.

        Args:
            pause_s: The pause if there were no epochs; None: Bytewax's next iteration.
            open_pages: Open pages of the process.
        """
        now, ends_at = self._epoch.now(), self._ends_at()
        if self._polled_at >= ends_at:  # this iteration ends the epoch
            closing_s = min(CLOSING_S + CLOSING_PER_PAGE_S * open_pages, CLOSING_MAX_S)
            return now + timedelta(seconds=max(pause_s or 0.0, closing_s))
        wake_at = now + timedelta(seconds=pause_s or 0.0)
        margin = timedelta(seconds=BUSY_MARGIN_S if open_pages else MARGIN_S)
        if wake_at >= self._own_end - margin:
            return ends_at
        return None if pause_s is None else wake_at

    def _ends_at(self) -> datetime:
        """Return the common end: the epoch's length after the last slot has begun the epoch.

        The wait for a worker that began much later is limited; the epochs converge one by one.
        """
        number, ends_at = self._epoch.latest
        if number != self._number:  # another slot has ended the epoch already
            return self._own_end
        return min(ends_at, self._own_end + timedelta(seconds=CLOSING_MAX_S))
