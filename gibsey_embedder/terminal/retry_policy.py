"""Asking a service again while it is away, in the words of a command that somebody watches."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina
from rich.console import Console
from rich.markup import escape

from connectors.core.errors import ConfigurationError, RetryableError, ServiceError
from connectors.http.retry import FIRST_WAIT_S, LONGEST_WAIT_S

T = TypeVar("T")

GIVE_UP_AFTER_S = 300.0
"""A service that restarts is back within this time; a person who watches has gone by then."""
REPEAT_S = 30.0


class GaveUpError(Exception):
    """A command cannot go on; `str()` is one line with the remedy where one is known."""


class RetryPolicy:
    """Tries again what passes, and says what is waited for: at once, and when that changes.

    Args:
        console: Where it is said.
        limit_s: Seconds after which a fault that should pass is given up on.
    """

    def __init__(self, console: Console, limit_s: float = GIVE_UP_AFTER_S) -> None:
        self._console = console
        self._limit_s = limit_s
        self._said = ""
        self._said_at = float("-inf")
        stamina.instrumentation.set_on_retry_hooks([])  # it is said here

    async def answered(self, attempt: Callable[[], Awaitable[T]], remedy: str = "") -> T:
        """Call `attempt` until it raises no `TransientError`, for at most the limit.

        Args:
            attempt: Asks the service.
            remedy: What to do where it does not answer in time.

        Raises:
            GaveUpError: A fault of the set-up, or one that has not passed in time.
        """
        try:
            async for tried in stamina.retry_context(
                on=self._wait,
                attempts=None,
                timeout=self._limit_s,
                wait_initial=FIRST_WAIT_S,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=FIRST_WAIT_S,
            ):
                with tried:
                    return await attempt()
        except ConfigurationError as fault:
            raise GaveUpError(f"{fault.detail}; {fault.remedy}") from fault
        except ServiceError as error:
            said = f"{error.detail} (tried for {self._limit_s:.0f} s)"
            raise GaveUpError(f"{said}; {remedy}" if remedy else said) from error
        raise AssertionError("stamina ends only with a result or an error")

    def _wait(self, error: Exception) -> bool | float:
        if isinstance(error, ConfigurationError) or not isinstance(error, RetryableError):
            return False
        self.say(error.detail)
        return error.retry_after_s or True

    def say(self, reason: str) -> None:
        """Tell what is waited for; the same thing again only after a while."""
        now = time.monotonic()
        if reason == self._said and now - self._said_at < REPEAT_S:
            return
        self._said, self._said_at = reason, now
        self._console.print(
            f"waiting: {escape(reason)}", style="yellow", highlight=False, soft_wrap=True
        )
