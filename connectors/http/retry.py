"""Trying again for as long as it takes, with back-off, jitter and Retry-After."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from connectors.core.errors import RejectedError, RetryableError
from connectors.observability.stalls import Stalls

T = TypeVar("T")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
"""A service that comes back is noticed within this time: less than the promised freshness."""


async def until_answered(attempt: Callable[[], Awaitable[T]], *, service: str, stalls: Stalls) -> T:
    """Call `attempt` until it does not raise `TransientError`.

    Args:
        attempt: One try; raises `TransientError` (or `ConfigurationError`) to be tried again.
        service: Under which name the waiting is reported.
        stalls: Where it is reported.

    Returns:
        What the successful try returned.

    Raises:
        RejectedError: As raised by `attempt`; anything else it raises, too.
    """
    try:
        try:
            result = await attempt()
        except RetryableError as error:
            stalls.failed(service, error)
            result = await _again(attempt, error, service, stalls)
    except RejectedError:  # that is an answer too
        stalls.cleared(service)
        raise
    stalls.cleared(service)
    return result


async def _again(
    attempt: Callable[[], Awaitable[T]], first: RetryableError, service: str, stalls: Stalls
) -> T:
    def wait(error: Exception) -> bool | float:
        if not isinstance(error, RetryableError):
            return False
        if error is not first:
            stalls.failed(service, error)
        return error.retry_after_s or True  # a Retry-After of 0 is no reason to hammer

    begun = False
    async for tried in stamina.retry_context(
        on=wait,
        attempts=None,
        timeout=None,
        wait_initial=FIRST_WAIT_S,
        wait_max=LONGEST_WAIT_S,
        wait_jitter=FIRST_WAIT_S,
    ):
        with tried:
            if not begun:
                begun = True
                raise first  # the try that the caller has already made
            return await attempt()
    raise AssertionError("stamina ends only with a result or an error")
