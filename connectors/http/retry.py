"""Retries without an end, with back-off, jitter and Retry-After."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from connectors.core.errors import RejectedError, RetryableError
from connectors.observability.stalls import Stalls

T = TypeVar("T")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
"""The stream notices a service that recovers within this time, less than the promised freshness."""


async def retry_until_answered(
    attempt: Callable[[], Awaitable[T]], *, service: str, stalls: Stalls
) -> T:
    """Call `attempt` until it does not raise `RetryableError`.

    Args:
        attempt: Sends one request.
        service: The service's name in reports.
        stalls: Where failures are reported.

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
            result = await _retry(attempt, error, service, stalls)
    except RejectedError:  # the service responded
        stalls.cleared(service)
        raise
    stalls.cleared(service)
    return result


async def _retry(
    attempt: Callable[[], Awaitable[T]], first: RetryableError, service: str, stalls: Stalls
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
        wait_initial=FIRST_WAIT_S,
        wait_max=LONGEST_WAIT_S,
        wait_jitter=FIRST_WAIT_S,
    ):
        with context:
            if is_first:
                is_first = False
                raise first  # the caller has made the first attempt
            return await attempt()
    raise AssertionError("stamina ends only with a result or an error")
