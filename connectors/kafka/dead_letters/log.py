"""The log of dead letters: a line for each, or their number if there are many."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from connectors.core.records import OTHER_SPACE, DeadLetter
from connectors.kafka.dead_letters.message import one_line
from connectors.observability import logs

LINES_PER_PERIOD = 100
"""Lines for each reason in a period; further dead letters are counted."""
PERIOD_S = 10.0


class DeadLetterLog:
    """Logs dead letters, by reason.

    Those of `OTHER_SPACE` are only counted and are not errors: the fallback itself logs when it
    starts and ends.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._period_ends = float("-inf")
        self._in_period: Counter[str] = Counter()  # by reason
        self._not_logged: Counter[str] = Counter()
        self._log = logs.get("stream")

    def add(self, dead_letter: DeadLetter) -> bool:
        """Log a confirmed dead letter, or count it.

        Returns:
            Whether it is the first one that is counted: `summarise` is due after `PERIOD_S`.
        """
        now = self._clock()
        if now >= self._period_ends:
            self._period_ends, self._in_period = now + PERIOD_S, Counter()
        reason = dead_letter.reason
        self._in_period[reason] += 1
        if reason == OTHER_SPACE or self._in_period[reason] > LINES_PER_PERIOD:
            self._not_logged[reason] += 1
            return self._not_logged.total() == 1
        self._log.error(
            "dead letter",
            origin=dead_letter.record.origin,
            reason=reason,
            detail=one_line(dead_letter.detail),
        )
        return False

    def summarise(self) -> None:
        """Log how many dead letters were counted."""
        counts, self._not_logged = self._not_logged, Counter()
        if pages := counts.pop(OTHER_SPACE, 0):
            self._log.info("stored with vectors of the fallback", pages=pages, within_s=PERIOD_S)
        for reason, count in counts.items():
            self._log.error("more dead letters", count=count, reason=reason, within_s=PERIOD_S)
