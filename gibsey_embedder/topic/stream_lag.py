"""How far the stream is behind, as seen from outside, and a throttle that goes by it."""

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

ASK_S = 5.0
LOOK_EVERY_S = 0.25
STANDSTILL_S = 60.0
METRIC = "gibsey_consumer_lag"

Lag = Callable[[], Awaitable[int]]


class GroupLag:
    """Records behind the group's committed offsets; one process commits them each second.

    Args:
        config: How Kafka is reached, the topic and the group.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._reader = TopicReader(config, config.group)

    async def __call__(self) -> int:
        """The lag.

        Raises:
            TransientError: No broker answers.
            ConfigurationError: There is no such topic.
        """
        try:
            return await asyncio.to_thread(self._ask)
        except KafkaUnavailableError as error:
            raise TransientError(str(error)) from error
        except KafkaException as error:
            raise TransientError(
                f"Kafka at {self._config.brokers}: {error.args[0].str()}"
            ) from error

    def _ask(self) -> int:
        topic = self._config.topic
        ends = self._reader.ends(topic)
        if not ends:
            remedy = "correct KAFKA_TOPIC, or make the topic"
            raise ConfigurationError(f"there is no topic {topic}", remedy=remedy)
        # where nothing is committed the stream begins at the first record
        committed = self._reader.committed(topic, list(ends))
        return sum(max(0, end - max(low, committed.get(n, low))) for n, (low, end) in ends.items())

    def close(self) -> None:
        """Let the connection go."""
        self._reader.close()


class StatusLag:
    """The sum of what processes tell at `/metrics`: the way for a cluster, which commits nothing.

    Args:
        http: The HTTP client.
        urls: The status port of each process, such as `http://127.0.0.1:6066`.
    """

    def __init__(self, http: HttpClient, urls: Sequence[str]) -> None:
        self._http = http
        self._urls = [url.rstrip("/") for url in urls]

    async def __call__(self) -> int:
        """The lag.

        Raises:
            TransientError: One of them does not answer, or knows no lag yet.
        """
        return sum(await asyncio.gather(*(self._ask(url) for url in self._urls)))

    async def _ask(self, url: str) -> int:
        answer = await self._http.exchange("GET", f"{url}/metrics", timeout_s=ASK_S)
        if not answer.ok:
            raise TransientError(
                f"{address_of(url)} answered {answer.status} when asked for /metrics"
            )
        families = text_string_to_metric_families(answer.body.decode(errors="replace"))
        samples = [s for family in families if family.name == METRIC for s in family.samples]
        if not samples:
            raise TransientError(f"{address_of(url)} tells no {METRIC} yet")
        return int(sum(sample.value for sample in samples))


class Throttle:
    """Waits until the stream has worked off enough.

    Args:
        lag: Tells how far it is behind.
        most: Records that it may be behind; 0: it is not asked at all.
        retry_policy: Tries again what passes, and says what is waited for.
    """

    def __init__(self, lag: Lag, most: int, retry_policy: RetryPolicy) -> None:
        self._lag = lag
        self._most = most
        self._retry_policy = retry_policy

    async def wait_for_room(self, records: int) -> None:
        """Return when so many more records leave the lag within the limit.

        Raises:
            GaveUpError: The lag cannot be told.
        """
        if not self._most:
            return
        lowest, since = None, time.monotonic()
        while True:
            lag = await self._retry_policy.call(self._lag)
            if lag == 0 or lag + records <= self._most:
                return
            if lowest is None or lag < lowest:
                lowest, since = lag, time.monotonic()
            elif time.monotonic() - since > STANDSTILL_S:
                self._retry_policy.report_waiting(
                    f"the stream is {lag:,} records behind and does not get on: is it running, and "
                    "what does its status page say? A cluster commits nothing: give --status-url "
                    "for each of its processes"
                )
            await asyncio.sleep(LOOK_EVERY_S)
