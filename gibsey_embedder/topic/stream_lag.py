"""The lag of the stream, as seen from outside, and a throttle that depends on it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from confluent_kafka import KafkaException
from prometheus_client.parser import text_string_to_metric_families

from connectors.core.errors import ConfigurationError, TransientError
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.kafka.config import KafkaConfig
from gibsey_embedder.terminal.retry_policy import RetryPolicy
from gibsey_embedder.topic.reader import KafkaUnavailableError, TopicReader

METRICS_TIMEOUT_S = 5.0
POLL_INTERVAL_S = 0.25
STALL_S = 60.0
"""A lag that does not fall for this time is reported."""
METRIC = "gibsey_consumer_lag"

Lag = Callable[[], Awaitable[int]]


class GroupLag:
    """The number of records after the group's committed offsets.

    Args:
        config: The access to Kafka, the topic and the group.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._reader = TopicReader(config, config.group)

    async def __call__(self) -> int:
        """Return the lag in records.

        Raises:
            TransientError: No broker responds.
            ConfigurationError: The topic does not exist.
        """
        try:
            return await asyncio.to_thread(self._read)
        except KafkaUnavailableError as error:
            raise TransientError(str(error)) from error
        except KafkaException as error:
            raise TransientError(
                f"Kafka at {self._config.brokers}: {error.args[0].str()}"
            ) from error

    def _read(self) -> int:
        topic = self._config.topic
        ends = self._reader.ends(topic)
        if not ends:
            remedy = "correct KAFKA_TOPIC, or create the topic"
            raise ConfigurationError(f"there is no topic {topic}", remedy=remedy)
        # without a committed offset, the stream begins at the first record
        committed = self._reader.committed(topic, list(ends))
        return sum(max(0, end - max(low, committed.get(n, low))) for n, (low, end) in ends.items())

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


class StatusLag:
    """The sum of the lags in the `/metrics` of all processes, for a cluster, which does not commit.

    Args:
        http: The HTTP client.
        urls: The status port of each process, such as `http://127.0.0.1:6066`.
    """

    def __init__(self, http: HttpClient, urls: Sequence[str]) -> None:
        self._http = http
        self._urls = [url.rstrip("/") for url in urls]

    async def __call__(self) -> int:
        """Return the lag in records.

        Raises:
            TransientError: A process does not respond, or does not know its lag yet.
        """
        return sum(await asyncio.gather(*(self._read(url) for url in self._urls)))

    async def _read(self, url: str) -> int:
        response = await self._http.exchange("GET", f"{url}/metrics", timeout_s=METRICS_TIMEOUT_S)
        if not response.ok:
            raise TransientError(f"{address_of(url)} responded {response.status} to GET /metrics")
        families = text_string_to_metric_families(response.body.decode(errors="replace"))
        samples = [s for family in families if family.name == METRIC for s in family.samples]
        if not samples:
            raise TransientError(f"{address_of(url)} has no metric {METRIC} yet")
        return int(sum(sample.value for sample in samples))


class Throttle:
    """Waits while the stream's lag is too large.

    Args:
        lag: Returns the lag.
        max_lag: Maximum lag in records; 0 means no limit.
        retry_policy: Retries the request for the lag, and prints what the command waits for.
        interval_s: Seconds between two requests for the lag.
        stall_s: Seconds after which a lag that does not fall is reported.
    """

    def __init__(
        self,
        lag: Lag,
        max_lag: int,
        retry_policy: RetryPolicy,
        *,
        interval_s: float = POLL_INTERVAL_S,
        stall_s: float = STALL_S,
    ) -> None:
        self._lag = lag
        self._max_lag = max_lag
        self._retry_policy = retry_policy
        self._interval_s, self._stall_s = interval_s, stall_s

    async def wait_for_room(self, records: int) -> None:
        """Wait until `records` more records keep the lag within its limit.

        Raises:
            GaveUpError: The lag is unknown.
        """
        if not self._max_lag:
            return
        lowest, since = None, time.monotonic()
        while True:
            lag = await self._retry_policy.call(self._lag)
            if lag == 0 or lag + records <= self._max_lag:
                return
            if lowest is None or lag < lowest:
                lowest, since = lag, time.monotonic()
            elif time.monotonic() - since > self._stall_s:
                self._retry_policy.report_waiting(
                    f"the stream is {lag:,} records behind and makes no progress; check that it "
                    "runs, and read its status page. A cluster does not commit offsets: give "
                    "--status-url for each of its processes"
                )
            await asyncio.sleep(self._interval_s)
