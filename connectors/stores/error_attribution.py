"""Whose fault it is that a row is refused: the row's own, or the set-up's or the service's.

A service says 400 both to a row that it will never take and, of a table that does not fit, to
every row; and 500 both for a row that it stumbles over and for hard times of its own. One answer
does not tell these apart; how the other rows fare does. Mistaken one way a good row becomes a
dead letter (in hard times, the whole backlog), the other way one bad row stops the stream for
ever.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from connectors.core.errors import ConfigurationError, RejectedError, RetryableError, TransientError

FIRST_ROWS = 3
"""So many different rows refused before one was ever accepted: it is the set-up."""

ROWS_IN_A_ROW = 20
"""The same once rows have been accepted: somebody changed the table, or the service."""

HOLD_S = 5.0
"""A refused row waits so long to see how others fare."""

MIN_FAILURES = 10
MIN_FAILING_S = 30.0
"""A row that gets nothing but 500 is given up after both, if other rows fare well."""

LONE_FAILING_S = 300.0
"""The same where no others are written, so that nothing is known of them."""

FEW_ROWS = 3
"""More rows than these, all failing and none accepted, are no accident of single rows."""


@dataclass(slots=True, eq=False)
class RowCase:
    """One row's case, from its first request to its end.

    Attributes:
        page_id: The row's page.
        accepted_before: Rows accepted before it began.
        failures_before: 500s answered before it began.
        failures: 500s that it got.
        since: When it was first answered 400 or 500 (seconds of the monotonic clock).
        accepted_at_refusal: Rows accepted before its first 400.
    """

    page_id: str
    accepted_before: int
    failures_before: int
    failures: int = 0
    since: float | None = None
    accepted_at_refusal: int | None = None


class ErrorAttribution:
    """How the rows of one output fare; used on the event loop only.

    Args:
        clock: Seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accepted = 0
        self._failures = 0
        self._failing: set[RowCase] = set()
        self._refused: set[str] = set()  # pages refused since the last one was accepted

    def begin(self, page_id: str) -> RowCase:
        """Open the case of a row."""
        return RowCase(page_id, self._accepted, self._failures)

    def end(self, case: RowCase) -> None:
        """Close it, however it went."""
        self._failing.discard(case)

    def accepted(self, rows: int = 1) -> None:
        """Note rows that were stored."""
        self._accepted += rows
        if self._refused:
            self._refused.clear()

    def accepted_since(self, case: RowCase) -> int:
        """How many rows were stored since a row's case began."""
        return self._accepted - case.accepted_before

    def attribute_rejection(
        self, case: RowCase, error: RejectedError, remedy: str
    ) -> RetryableError:
        """Say what a refusal (400) means that names no fault of the set-up.

        Where another row was accepted between two refusals of this one, it is this row's fault;
        where none comes, after `HOLD_S`. Before one ever was accepted, three rows refused mean the
        set-up; the ones given up meanwhile count too. After that it takes twenty in a row, since
        bad rows do come in groups.

        Args:
            case: The row's case.
            error: What the service said.
            remedy: What to do if it is the set-up.

        Returns:
            The error to try again after.

        Raises:
            RejectedError: The row is to be given up.
        """
        if case.accepted_at_refusal is None:
            case.accepted_at_refusal = self._accepted
        if len(self._refused) < ROWS_IN_A_ROW:
            self._refused.add(case.page_id)
        enough = ROWS_IN_A_ROW if self._accepted else FIRST_ROWS
        if len(self._refused) >= enough:
            return ConfigurationError(f"every row is refused: {error.detail}", remedy=remedy)
        others_fare_well = self._accepted > case.accepted_at_refusal
        if self._failing_for(case) >= HOLD_S or others_fare_well:
            raise error
        return TransientError(f"a row is refused, others may be too: {error.detail}")

    async def attribute_failure(
        self, case: RowCase, error: RetryableError, answers: Callable[[], Awaitable[bool]]
    ) -> RetryableError:
        """Say what a 500 means.

        It is the row's fault when it got at least ten over at least 30 s, the service answers
        otherwise, and the other rows fare well: since the row began, at least one was accepted,
        and no fewer than got a 500. Where that says nothing, after five minutes, unless many
        rows fail and none is accepted. So a service that answers 500 to everybody never causes
        a dead letter by itself.

        Args:
            case: The row's case.
            error: What the service said.
            answers: Asks whether the service answers a read of the row.

        Returns:
            The error to try again after.

        Raises:
            RejectedError: The row is to be given up.
        """
        self._failures += 1
        case.failures += 1
        self._failing.add(case)
        failing_s = self._failing_for(case)
        if case.failures < MIN_FAILURES or failing_s < MIN_FAILING_S:
            return error
        if self._is_suspect(case, failing_s) and await answers():
            raise RejectedError(
                f"answered with an error {case.failures} times in {failing_s:.0f} s, "
                f"while other requests went well: {error.detail}"
            )
        return error

    def _is_suspect(self, case: RowCase, failing_s: float) -> bool:
        accepted = self.accepted_since(case)
        others_failed = self._failures - case.failures_before - case.failures
        if accepted and accepted >= others_failed:
            return True
        exception = accepted > 0 or len(self._failing) <= FEW_ROWS
        return failing_s >= LONE_FAILING_S and exception

    def _failing_for(self, case: RowCase) -> float:
        now = self._clock()
        if case.since is None:
            case.since = now
        return now - case.since
