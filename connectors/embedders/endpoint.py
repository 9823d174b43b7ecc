"""One embedder of a pool, and what is known of it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connectors.core.errors import RetryableError
from connectors.embedders.base import EmbedderClient
from connectors.embedders.batching.throughput import Throughput

if TYPE_CHECKING:
    from connectors.embedders.endpoint_pool import EndpointPool

CONCURRENCY = 2
"""Requests at an endpoint at the same time: one computing, and one queued behind it. More of them
only make a server like Ollama's, which does one at a time, less fresh."""
MIN_PAUSE_S = 0.1
MAX_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What people are shown of an endpoint.

    Attributes:
        name: Scheme, host and port.
        in_flight: Requests in flight.
        concurrency: The most of them.
        faults: Failed requests since its latest answer.
    """

    name: str
    in_flight: int
    concurrency: int
    faults: int


@dataclass(slots=True, eq=False)
class Endpoint:
    """One embedder of a pool, and what is known of it.

    Attributes:
        client: How it is asked.
        index: Its number in the metrics.
        pool: Whose it is.
        concurrency: The most requests that it is to have at the same time.
        min_pause_s: Seconds of the pause after a first failure; each further one doubles it.
        max_pause_s: Seconds of the longest pause.
        throughput: How fast it is.
        in_flight: Requests in flight.
        in_flight_chars: What they cost.
        has_isolated: Whether a text is in flight that may make the server fail: alone then.
        faults: Failed requests since its latest answer; those that failed together are one.
        fault: The latest of them.
        failing_since: When the first of them began (monotonic seconds).
        failed_at: When the latest of them was told (monotonic seconds).
        retry_at: When it may be asked again after a fault (monotonic seconds).
        free_since: When its latest answer came: the start of the next one's computing.
        seen_at: When it told what its model is like (monotonic seconds); never, after a fault.
        looking: Held while it is asked that.
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
    faults: int = 0
    fault: RetryableError | None = None
    failing_since: float = 0.0
    failed_at: float = 0.0
    retry_at: float = 0.0
    free_since: float = 0.0
    seen_at: float = -math.inf
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def slots(self) -> int:
        """How many requests it may have: one, as a trial, after a fault."""
        return 1 if self.faults or self.has_isolated else self.concurrency

    @property
    def status(self) -> EndpointStatus:
        """What people are shown of it."""
        return EndpointStatus(self.client.name, self.in_flight, self.concurrency, self.faults)

    def load(self) -> tuple[bool, float, int]:
        """What to compare by: the least loaded of the sound endpoints comes first."""
        return self.faults > 0, self.throughput.expected_s(self.in_flight_chars), self.in_flight

    def failed(self, error: RetryableError, sent_at: float) -> None:
        """Leave it alone for a while, however many requests failed together."""
        now = time.monotonic()
        self.fault = error
        if not self.faults:
            self.failing_since = now - error.lasted_s
        if not self.faults or sent_at >= self.failed_at:
            self.faults += 1
            self.failed_at = now
        self.seen_at = -math.inf
        wait = min(self.min_pause_s * 2 ** min(self.faults - 1, 10), self.max_pause_s)
        asked_for = (error.retry_after_s or 0.0) * random.uniform(1.0, 1.2)  # never before it
        wait = max(wait * random.uniform(0.8, 1.2), asked_for)
        self.retry_at = max(self.retry_at, now + wait)
