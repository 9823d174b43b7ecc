"""The rules by which commands send into the topic: how fast, and from when on.

What they send counts as written at a time, and what they read must be newer than that.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from connectors.http.client import HttpClient
from dataflow.config.settings import Settings
from dataflow.wiring import kafka_config
from gibsey_embedder.terminal.options import MAX_LAG, SKEW_S
from gibsey_embedder.terminal.retry_policy import RetryPolicy
from gibsey_embedder.topic.stream_lag import GroupLag, Lag, StatusLag, Throttle


def beginning_us() -> int:
    """The time that what a command sends counts as written at (microseconds since 1970).

    Right below this millisecond: records' own times have no more digits, and one that is written
    from now on must be newer.
    """
    return time.time_ns() // 1_000_000 * 1000 - 1


@dataclass(frozen=True, slots=True)
class SendRules:
    """What the options say about it.

    Attributes:
        max_lag: Records that the stream may be behind; 0: it is not asked.
        status_urls: Status ports that tell the lag; none: Kafka tells it.
        skew_s: Seconds by which writers' clocks may differ from this one.
    """

    max_lag: int = MAX_LAG
    status_urls: tuple[str, ...] = ()
    skew_s: float = SKEW_S

    def lag(self, settings: Settings, open_: AsyncExitStack) -> Lag:
        """What tells how far the stream is behind; its connections end with `open_`."""
        if self.status_urls:
            http = HttpClient(settings.http_ca_file)
            open_.push_async_callback(http.close)
            return StatusLag(http, self.status_urls)
        lag = GroupLag(kafka_config(settings))
        open_.callback(lag.close)
        return lag

    def throttle(
        self, settings: Settings, retry_policy: RetryPolicy, open_: AsyncExitStack
    ) -> Throttle:
        """Keeps within `max_lag`; its connections end with `open_`."""
        return Throttle(self.lag(settings, open_), self.max_lag, retry_policy)

    async def wait_for_clocks(self, written_us: int) -> None:
        """Return when every write that counts as older than a time has been made, by any clock.

        Args:
            written_us: The time (microseconds since 1970); what is read afterwards holds
                everything that was written before it.
        """
        left_s = written_us / 1e6 + self.skew_s - time.time()
        await asyncio.sleep(max(0.0, min(left_s, self.skew_s)))
