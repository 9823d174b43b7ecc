"""The lag of the stream from Kafka or from its status ports, and the throttle."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition
from rich.console import Console

from connectors.core.errors import ConfigurationError, TransientError
from connectors.http.client import HttpClient
from connectors.kafka.config import KafkaConfig
from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.message import Reply, Request, text_reply
from gibsey_embedder.fakes.server import FakeServer
from gibsey_embedder.terminal.retry_policy import RetryPolicy
from gibsey_embedder.topic.reader import TopicReader
from gibsey_embedder.topic.stream_lag import GroupLag, Lag, StatusLag, Throttle

GROUP = "gibsey-embedder"


class Metrics(FakeServer):
    """A status port with the given metrics."""

    text = ""

    async def reply_to(self, request: Request) -> Reply:
        return text_reply(self.text) if request.path == "/metrics" else Reply(404)


@pytest.fixture
def status() -> Iterator[Metrics]:
    with Metrics() as port:
        yield port


def commit(kafka: MockKafka, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": kafka.broker, "group.id": GROUP})
    entry = TopicPartition("cdc.pages", partition, offset)
    consumer.commit(offsets=[entry], asynchronous=False)
    consumer.close()


def fill(kafka: MockKafka, *counts: int) -> None:
    for partition, count in enumerate(counts):
        for _ in range(count):
            kafka.produce("cdc.pages", "k", "v", partition=partition)
    kafka.flush()


def group_lag(kafka: MockKafka, topic: str = "cdc.pages") -> int:
    lag = GroupLag(KafkaConfig(kafka.broker, topic))
    try:
        return asyncio.run(lag())
    finally:
        lag.close()


def test_the_lag_is_the_number_of_records_after_the_committed_offsets(
    mock_kafka: MockKafka,
) -> None:
    assert group_lag(mock_kafka) == 0
    fill(mock_kafka, 5, 3, 0)
    assert group_lag(mock_kafka) == 8
    commit(mock_kafka, 0, 4)
    assert group_lag(mock_kafka) == 4


def test_a_missing_topic_is_reported_with_its_remedy(
    mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TopicReader, "ends", lambda *_: {})  # the mock creates any topic
    with pytest.raises(ConfigurationError, match=r"no topic no\.such") as raised:
        group_lag(mock_kafka, "no.such")
    assert "KAFKA_TOPIC" in raised.value.remedy


def status_lag(*urls: str) -> int:
    async def read() -> int:
        http = HttpClient()
        try:
            return await StatusLag(http, urls)()
        finally:
            await http.close()

    return asyncio.run(read())


def test_the_lag_of_a_cluster_is_the_sum_over_its_processes(status: Metrics) -> None:
    with pytest.raises(TransientError, match="has no metric gibsey_consumer_lag yet"):
        status_lag(status.url)
    status.text = (
        "# TYPE gibsey_consumer_lag gauge\n"
        'gibsey_consumer_lag{partition="0"} 4.0\ngibsey_consumer_lag{partition="1"} 3.0\n'
    )
    assert status_lag(status.url) == 7
    assert status_lag(status.url, f"{status.url}/") == 14


class Falling:
    """A lag that falls with each request."""

    def __init__(self, *lags: int) -> None:
        self.lags = list(lags)

    async def __call__(self) -> int:
        return self.lags.pop(0) if len(self.lags) > 1 else self.lags[0]


def throttle(lag: Lag, max_lag: int, console: Console | None = None) -> Throttle:
    retry_policy = RetryPolicy(console or Console(quiet=True))
    return Throttle(lag, max_lag, retry_policy, interval_s=0.0, stall_s=0.0 if console else 60.0)


@pytest.mark.parametrize(
    ("lags", "left"), [((50, 11, 10, 9), [9]), ((10,), [10]), ((3, 2), [2]), ((90, 0, 5), [5])]
)
def test_the_throttle_waits_until_the_records_keep_the_lag_within_its_limit(
    lags: tuple[int, ...], left: list[int]
) -> None:
    falling = Falling(*lags)
    asyncio.run(throttle(falling, 20).wait_for_room(10))
    assert falling.lags == left


def test_records_beyond_the_limit_are_sent_when_the_lag_is_0() -> None:
    asyncio.run(throttle(Falling(0), 5).wait_for_room(100))


def test_without_a_limit_the_lag_is_not_read() -> None:
    async def never() -> int:
        raise AssertionError

    asyncio.run(throttle(never, 0).wait_for_room(100))


def test_a_stream_without_progress_is_reported() -> None:
    console = Console(width=300)
    with console.capture() as output:
        asyncio.run(throttle(Falling(50, 50, 50, 50, 5), 20, console).wait_for_room(10))
    assert "50 records behind and makes no progress" in output.get()
    assert "--status-url" in output.get()
