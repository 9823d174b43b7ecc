"""Whether a row itself, the setup or the service causes a rejection or an error.

A service answers 400 both to a row that it will never accept and, if the table does not fit, to
every row. It answers 500 both to a row that it fails on and while it is overloaded. One response
does not distinguish these cases; how other rows fare does. A wrong answer costs a good row (or the
whole backlog), or lets one bad row stop the stream forever.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from connectors.core.errors import ConfigurationError, RejectedError, RetryableError, TransientError

FIRST_ROWS = 3
"""If this many rows are rejected before any is accepted, the setup is wrong."""

ROWS_IN_A_ROW = 20
"""The same limit after rows have been accepted: somebody changed the table, or the service."""

HOLD_S = 5.0
"""How long a rejected row waits to see how other rows fare."""

MIN_FAILURES = 10
MIN_FAILING_S = 30.0
"""A row that only gets 500 is rejected after both limits, if other rows are accepted."""

LONE_FAILING_S = 300.0
"""The same limit if no other rows are written, so that nothing is known about them."""

FEW_ROWS = 3
"""If more rows than this fail and none is accepted, the rows are not the cause."""


@dataclass(slots=True, eq=False)
class RowCase:
    """What happened to one row between its first request and its end.

    Attributes:
        page_id: The row's page.
        accepted_before: Rows accepted before its first request.
        failures_before: Responses with 500 before its first request.
        failures: Responses with 500 to this row.
        since: When it first got 400 or 500 (seconds of the monotonic clock).
        accepted_at_rejection: Rows accepted before its first 400.
    """

    page_id: str
    accepted_before: int
    failures_before: int
    failures: int = 0
    since: float | None = None
    accepted_at_rejection: int | None = None


class ErrorAttribution:
    """Compares the rows of one output; used on the event loop only.

    Args:
        clock: Monotonic seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accepted = 0
        self._failures = 0
        self._failing: set[RowCase] = set()
        self._rejected: set[str] = set()  # pages rejected since the last row was accepted

    def begin(self, page_id: str) -> RowCase:
        """Open the case of a row."""
        return RowCase(page_id, self._accepted, self._failures)

    def end(self, case: RowCase) -> None:
        """Close a case, whatever its result."""
        self._failing.discard(case)

    def accepted(self, rows: int = 1) -> None:
        """Count rows that were stored."""
        self._accepted += rows
        if self._rejected:
            self._rejected.clear()

    def accepted_since(self, case: RowCase) -> int:
        """Return how many rows were stored since a case was opened."""
        return self._accepted - case.accepted_before

    def attribute_rejection(
        self, case: RowCase, error: RejectedError, remedy: str
    ) -> RetryableError:
        """Attribute a 400 whose message does not show an error of the setup.

        The row is the cause if another row was accepted between two rejections of this one, or
        after `HOLD_S`. The setup is the cause if `FIRST_ROWS` rows were rejected before any was
        accepted; later it takes `ROWS_IN_A_ROW`, because bad rows may come in groups.

        Args:
            case: The row's case.
            error: The rejection.
            remedy: What to do if the setup is the cause.

        Returns:
            The error after which the row is tried again.

        Raises:
            RejectedError: The row is the cause.
        """
        if case.accepted_at_rejection is None:
            case.accepted_at_rejection = self._accepted
        if len(self._rejected) < ROWS_IN_A_ROW:
            self._rejected.add(case.page_id)
        limit = ROWS_IN_A_ROW if self._accepted else FIRST_ROWS
        if len(self._rejected) >= limit:
            return ConfigurationError(f"every row is rejected: {error.detail}", remedy=remedy)
        others_accepted = self._accepted > case.accepted_at_rejection
        if self._failing_for(case) >= HOLD_S or others_accepted:
            raise error
        return TransientError(f"a row is rejected, perhaps others too: {error.detail}")

    async def attribute_failure(
        self, case: RowCase, error: RetryableError, is_healthy: Callable[[], Awaitable[bool]]
    ) -> RetryableError:
        """Attribute a 500.

        The row is the cause if it got at least `MIN_FAILURES` over at least `MIN_FAILING_S`, the
        service responds normally otherwise, and since the row's first request at least one other
        row was accepted and no fewer than got a 500. Without other rows, the row is the cause
        after `LONE_FAILING_S`, unless many rows fail and none is accepted. So a service that
        answers 500 to everything never causes a dead letter by itself.

        Args:
            case: The row's case.
            error: The failure.
            is_healthy: Whether the service responds normally to a read of the row.

        Returns:
            The error after which the row is tried again.

        Raises:
            RejectedError: The row is the cause.
        """
        self._failures += 1
        case.failures += 1
        self._failing.add(case)
        failing_s = self._failing_for(case)
        if case.failures < MIN_FAILURES or failing_s < MIN_FAILING_S:
            return error
        if self._may_be_cause(case, failing_s) and await is_healthy():
            raise RejectedError(
                f"answered with an error {case.failures} times in {failing_s:.0f} s, "
                f"while other requests succeeded: {error.detail}"
            )
        return error

    def _may_be_cause(self, case: RowCase, failing_s: float) -> bool:
        accepted = self.accepted_since(case)
        others_failed = self._failures - case.failures_before - case.failures
        if accepted and accepted >= others_failed:
            return True
        few_fail = accepted > 0 or len(self._failing) <= FEW_ROWS
        return failing_s >= LONE_FAILING_S and few_fail

    def _failing_for(self, case: RowCase) -> float:
        now = self._clock()
        if case.since is None:
            case.since = now
        return now - case.since
