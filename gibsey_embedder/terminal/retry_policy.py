"""Retries requests of a command, and prints what the command waits for."""

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
"""Long enough for a service to restart."""
REPEAT_S = 30.0
"""Minimum interval between two identical messages."""


class GaveUpError(Exception):
    """A command cannot continue; `str()` is one line, with a remedy if one is known."""


class RetryPolicy:
    """Retries requests after transient errors, and prints each new reason for waiting.

    Args:
        console: The console for these messages.
        limit_s: Seconds after which a transient error becomes final.
    """

    def __init__(self, console: Console, limit_s: float = GIVE_UP_AFTER_S) -> None:
        self._console = console
        self.limit_s = limit_s
        self._last_reason = ""
        self._printed_at = float("-inf")
        stamina.instrumentation.set_on_retry_hooks([])  # this class prints the retries

    async def call(self, request: Callable[[], Awaitable[T]], remedy: str = "") -> T:
        """Call `request` until it raises no `RetryableError`, or until the limit.

        Args:
            request: Sends the request.
            remedy: What to do if the service does not respond in time.

        Raises:
            GaveUpError: The error is not transient, or it lasts longer than the limit.
        """
        try:
            async for attempt in stamina.retry_context(
                on=self._wait,
                attempts=None,
                timeout=self.limit_s,
                wait_initial=FIRST_WAIT_S,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=FIRST_WAIT_S,
            ):
                with attempt:
                    return await request()
        except ConfigurationError as error:
            raise GaveUpError(f"{error.detail}; {error.remedy}") from error
        except ServiceError as error:
            reason = f"{error.detail} (retried for {self.limit_s:.0f} s)"
            raise GaveUpError(f"{reason}; {remedy}" if remedy else reason) from error
        raise AssertionError("stamina ends only with a result or an error")

    def _wait(self, error: Exception) -> bool | float:
        if isinstance(error, ConfigurationError) or not isinstance(error, RetryableError):
            return False
        self.report_waiting(error.detail)
        return error.retry_after_s or True

    def report_waiting(self, reason: str) -> None:
        """Print what the command waits for, unless the same reason was printed recently."""
        now = time.monotonic()
        if reason == self._last_reason and now - self._printed_at < REPEAT_S:
            return
        self._last_reason, self._printed_at = reason, now
        self._console.print(
            f"waiting: {escape(reason)}", style="yellow", highlight=False, soft_wrap=True
        )
