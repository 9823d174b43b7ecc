"""One embedder of a pool: its requests in flight, and its failures."""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connectors.core.errors import RetryableError, ServiceError, TransientError
from connectors.embedders.base import EmbedderClient
from connectors.embedders.batching.throughput import Throughput

if TYPE_CHECKING:
    from connectors.embedders.endpoint_pool import EndpointPool

CONCURRENCY = 2
"""Concurrent requests to one endpoint: one that it computes, and one that is queued behind it. More
of them only delay new pages at a server like Ollama, which computes one request at a time."""
MIN_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0


def as_retryable(error: ServiceError) -> RetryableError:
    """Return the error of a check as one to retry: no text of a page has caused it."""
    return error if isinstance(error, RetryableError) else TransientError(error.detail)


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What the status page shows of an endpoint.

    Attributes:
        name: Scheme, host and port.
        in_flight: Requests in flight.
        concurrency: The most requests in flight.
        failures: Failed requests since the last successful one.
    """

    name: str
    in_flight: int
    concurrency: int
    failures: int


@dataclass(slots=True, eq=False)
class Endpoint:
    """One embedder of a pool. Used on the event loop only.

    Attributes:
        client: Sends its requests.
        index: Its number in the metrics.
        pool: The pool that it belongs to.
        concurrency: The most requests in flight.
        min_pause_s: Seconds of the pause after a first failure; each further failure doubles it.
        max_pause_s: Seconds of the longest pause.
        throughput: How fast it embeds.
        in_flight: Requests in flight.
        in_flight_chars: The cost of these requests, in characters.
        has_isolated: Whether an isolated text is in flight, which is sent alone.
        failures: Failed requests since the last successful one. Requests that fail together count
            as one.
        last_error: The latest error.
        failing_since: When the first failed request began (monotonic seconds).
        failed_at: When the latest request failed (monotonic seconds).
        retry_at: When the pause ends (monotonic seconds).
        responded_at: When the latest response was received (monotonic seconds). The endpoint then
            began to compute the next request.
        checked_at: When it last described its model (monotonic seconds); -inf after a failure.
        check_lock: Held during the check.
    """

    client: EmbedderClient
    index: int
    pool: EndpointPool
    concurrency: int = CONCURRENCY
    min_pause_s: float = MIN_PAUSE_S
    max_pause_s: float = MAX_PAUSE_S
    throughput: Throughput = field(default_factory=Throughput)
    in_flight: int = 0
    in_flight_chars: int = 0
    has_isolated: bool = False
    failures: int = 0
    last_error: RetryableError | None = None
    failing_since: float = 0.0
    failed_at: float = 0.0
    retry_at: float = 0.0
    responded_at: float = 0.0
    checked_at: float = -math.inf
    check_lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def slots(self) -> int:
        """How many requests may be in flight: one, as a trial, after a failure."""
        return 1 if self.failures or self.has_isolated else self.concurrency

    @property
    def status(self) -> EndpointStatus:
        """What the status page shows."""
        return EndpointStatus(self.client.name, self.in_flight, self.concurrency, self.failures)

    def load(self) -> tuple[bool, float, int]:
        """Return a key to sort by: the least loaded endpoint that works comes first."""
        expected_s = self.throughput.expected_s(self.in_flight_chars)
        return self.failures > 0, expected_s, self.in_flight

    def record_failure(self, error: RetryableError, sent_at: float) -> None:
        """Pause the endpoint, once for all requests that fail together."""
        now = time.monotonic()
        self.last_error = error
        if not self.failures:
            self.failing_since = now - error.lasted_s
        if not self.failures or sent_at >= self.failed_at:
            self.failures += 1
            self.failed_at = now
        self.checked_at = -math.inf
        pause_s = min(self.min_pause_s * 2 ** min(self.failures - 1, 10), self.max_pause_s)
        requested_s = (error.retry_after_s or 0.0) * random.uniform(1.0, 1.2)  # never earlier
        pause_s = max(pause_s * random.uniform(0.8, 1.2), requested_s)
        self.retry_at = max(self.retry_at, now + pause_s)
