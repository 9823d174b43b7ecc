"""Logs dead letters: one line each, or their number where there are many."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from connectors.core.records import OTHER_SPACE, DeadLetter
from connectors.kafka.dead_letters.message import one_line
from connectors.observability import logs

LINES_PER_PERIOD = 100
PERIOD_S = 10.0


class DeadLetterLog:
    """Logs dead letters one by one, and by number where there are many of a reason.

    Those of `OTHER_SPACE` are counted only, and no error: the fallback says itself when its work
    begins and ends.

    Args:
        clock: Monotonic seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._period_ends = float("-inf")
        self._said: Counter[str] = Counter()  # by reason, as the next one
        self._unsaid: Counter[str] = Counter()
        self._log = logs.get("stream")

    def say(self, letter: DeadLetter) -> bool:
        """Log a letter that was confirmed.

        Returns:
            Whether it is the first that was counted instead, so that `sum_up` is due in a period.
        """
        now = self._clock()
        if now >= self._period_ends:
            self._period_ends, self._said = now + PERIOD_S, Counter()
        self._said[letter.reason] += 1
        if letter.reason == OTHER_SPACE or self._said[letter.reason] > LINES_PER_PERIOD:
            self._unsaid[letter.reason] += 1
            return self._unsaid.total() == 1
        self._log.error(
            "dead letter",
            origin=letter.record.origin,
            reason=letter.reason,
            detail=one_line(letter.detail),
        )
        return False

    def sum_up(self) -> None:
        """Log how many letters were counted instead of being logged."""
        unsaid, self._unsaid = self._unsaid, Counter()
        if pages := unsaid.pop(OTHER_SPACE, 0):
            self._log.info("stored with vectors of the fallback", pages=pages, within_s=PERIOD_S)
        for reason, count in unsaid.items():
            self._log.error("more dead letters", count=count, reason=reason, within_s=PERIOD_S)
