"""The rules for commands that send changes: the maximum lag and the write time.

The changes of a command have one write time, and the command reads its data after that time.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass

from connectors.http.client import HttpClient
from dataflow.clients import kafka_config
from dataflow.config.settings import Settings
from gibsey_embedder.terminal.options import MAX_LAG, SKEW_S
from gibsey_embedder.terminal.retry_policy import RetryPolicy
from gibsey_embedder.topic.stream_lag import GroupLag, Lag, StatusLag, Throttle


def current_write_time_us() -> int:
    """Return the write time for changes that a command sends (microseconds since 1970).

    It is just before the current millisecond, because the timestamps of records are milliseconds
    and a record that is written from now on must be newer.
    """
    return time.time_ns() // 1_000_000 * 1000 - 1


@dataclass(frozen=True, slots=True)
class SendRules:
    """The options of a command that sends changes.

    Attributes:
        max_lag: Maximum lag of the stream in records; 0 means no limit.
        status_urls: Status ports that report the lag; empty: the lag comes from Kafka.
        skew_s: Maximum difference between the clocks of writers and this machine, in seconds.
    """

    max_lag: int = MAX_LAG
    status_urls: tuple[str, ...] = ()
    skew_s: float = SKEW_S

    def lag(self, settings: Settings, open_: AsyncExitStack) -> Lag:
        """Return the source of the lag; `open_` closes its connections."""
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
        """Return a throttle for `max_lag`; `open_` closes its connections."""
        return Throttle(self.lag(settings, open_), self.max_lag, retry_policy)

    async def wait_for_clocks(self, written_us: int) -> None:
        """Wait until no writer's clock can still be before a time.

        Args:
            written_us: The time (microseconds since 1970); a read after the wait returns all
                writes before it.
        """
        left_s = written_us / 1e6 + self.skew_s - time.time()
        await asyncio.sleep(max(0.0, min(left_s, self.skew_s)))
