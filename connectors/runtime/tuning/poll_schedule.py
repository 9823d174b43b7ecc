"""When Bytewax polls a reader slot next.

A poll costs about 0.1 ms of CPU, most of it in Bytewax, and a slot without a schedule is polled
each millisecond: 5 % of a core for each idle worker (`make bench ARGS="--only idle"`).
"""

from __future__ import annotations

import time
from datetime import datetime

from connectors.runtime.tuning.epoch_schedule import EpochSchedule, SlotSchedule
from connectors.runtime.tuning.timer_slack import IDLE_AFTER_S, TimerSlack

IDLE_SHARE = 0.01
IDLE_MAX_S = 0.25
"""A slot that has read nothing for `IDLE_AFTER_S` sleeps this share of the time since its last
record, and at most `IDLE_MAX_S`. The first change after a pause of ten seconds thus waits up to
0.1 s more."""

LIVE_FOR_S = 0.25
LIVE_PAUSE_S = 0.0003
"""Pause of a slot that read a record less than `LIVE_FOR_S` ago, while no page is open. Bytewax's
own pause is 1 ms. It saves 0.3 ms of latency for successive edits, and costs 5 % of a core
(`make bench ARGS="--only edits"`)."""

NO_PARTITIONS_S = 0.25
"""Pause of a slot without partitions; a stop waits for it."""

NO_TOPIC_S = 0.02
"""Pause of a slot until the topic's partitions are known."""

HELD_BACK_S = 0.01
"""Pause of a slot that may not read: in this time a few dozen pages are settled."""


class PollSchedule:
    """The schedule of one reader slot.

    Args:
        epoch: When the epoch of the process ends.
        slack: How exactly the worker threads of the process wake.
    """

    def __init__(self, epoch: EpochSchedule, slack: TimerSlack) -> None:
        self._epoch = SlotSchedule(epoch)
        self._slack = slack
        self._read_at = time.monotonic()

    def polled(self) -> None:
        """Note that Bytewax polls the slot."""
        self._epoch.polled()

    def records_read(self) -> None:
        """Note that the slot has read records."""
        self._read_at = time.monotonic()
        self._slack.work_arrived()

    def epoch_ended(self) -> None:
        """Note that Bytewax takes the slot's snapshot."""
        self._epoch.begin()

    def next_poll(
        self, *, has_partitions: bool, is_topic_known: bool, may_read: bool, open_pages: int
    ) -> datetime | None:
        """Return when Bytewax should poll the slot next; None: after its own pause of 1 ms.

        Args:
            has_partitions: Whether the slot reads partitions.
            is_topic_known: Whether the topic's partitions are known.
            may_read: Whether back-pressure allows the slot to read.
            open_pages: Open pages of the process.
        """
        self._slack.adjust()
        if has_partitions:
            pause_s = self._reading_pause_s(may_read, open_pages)
        else:
            pause_s = NO_PARTITIONS_S if is_topic_known else NO_TOPIC_S
        return self._epoch.next_poll(pause_s, open_pages)

    def _reading_pause_s(self, may_read: bool, open_pages: int) -> float | None:
        idle_s = time.monotonic() - self._read_at
        if idle_s > IDLE_AFTER_S:
            return min(IDLE_SHARE * idle_s, IDLE_MAX_S)
        if not may_read:
            return HELD_BACK_S
        return LIVE_PAUSE_S if idle_s < LIVE_FOR_S and not open_pages else None
