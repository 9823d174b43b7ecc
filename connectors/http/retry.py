"""Retries indefinitely, with back-off, jitter and Retry-After."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from connectors.core.errors import RejectedError, RetryableError
from connectors.observability.stalls import Stalls

T = TypeVar("T")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
"""The stream detects a recovery within this time, which is less than the promised freshness."""


async def retry_until_answered(
    attempt: Callable[[], Awaitable[T]],
    *,
    service: str,
    stalls: Stalls,
    first_wait_s: float | None = None,
    longest_wait_s: float | None = None,
) -> T:
    """Call `attempt` until it does not raise `RetryableError`.

    Args:
        attempt: Sends one request.
        service: The service's name in reports.
        stalls: Where failures are reported.
        first_wait_s: Seconds before the second attempt; None: FIRST_WAIT_S.
        longest_wait_s: The longest wait in seconds; None: LONGEST_WAIT_S.

    Returns:
        The result of the attempt that succeeded.

    Raises:
        RejectedError: From `attempt`, as every other exception but `RetryableError`.
    """
    try:
        try:
            result = await attempt()
        except RetryableError as error:
            stalls.failed(service, error)
            waits = first_wait_s or FIRST_WAIT_S, longest_wait_s or LONGEST_WAIT_S
            result = await _retry(attempt, error, service, stalls, waits)
    except RejectedError:  # the service responded
        stalls.cleared(service)
        raise
    stalls.cleared(service)
    return result


async def _retry(
    attempt: Callable[[], Awaitable[T]],
    first: RetryableError,
    service: str,
    stalls: Stalls,
    waits: tuple[float, float],
) -> T:
    def wait(error: Exception) -> bool | float:
        if not isinstance(error, RetryableError):
            return False
        if error is not first:
            stalls.failed(service, error)
        return error.retry_after_s or True  # True: the usual wait, also for a Retry-After of 0

    is_first = True
    async for context in stamina.retry_context(
        on=wait,
        attempts=None,
        timeout=None,
        wait_initial=waits[0],
        wait_max=waits[1],
        wait_jitter=waits[0],
    ):
        with context:
            if is_first:
                is_first = False
                raise first  # the caller has made the first attempt
            return await attempt()
    raise AssertionError("stamina ends only with a result or an error")
