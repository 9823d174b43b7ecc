"""How far behind the stream is, by Kafka or by its status ports, and waiting by it."""

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
from gibsey_embedder.topic import stream_lag
from gibsey_embedder.topic.reader import TopicReader
from gibsey_embedder.topic.stream_lag import GroupLag, StatusLag, Throttle

GROUP = "gibsey-embedder"


class Metrics(FakeServer):
    """A status port that tells what it is told to."""

    text = ""

    async def reply_to(self, request: Request) -> Reply:
        return text_reply(self.text) if request.path == "/metrics" else Reply(404)


@pytest.fixture
def status() -> Iterator[Metrics]:
    with Metrics() as port:
        yield port


def commit(kafka: MockKafka, partition: int, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": kafka.broker, "group.id": GROUP})
    place = TopicPartition("cdc.pages", partition, offset)
    consumer.commit(offsets=[place], asynchronous=False)
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


def test_the_lag_is_what_lies_behind_the_committed_offsets(mock_kafka: MockKafka) -> None:
    assert group_lag(mock_kafka) == 0
    fill(mock_kafka, 5, 3, 0)
    assert group_lag(mock_kafka) == 8
    commit(mock_kafka, 0, 4)
    assert group_lag(mock_kafka) == 4


def test_a_topic_that_is_missing_is_told_with_its_remedy(
    mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TopicReader, "ends", lambda *_: {})  # the mock makes every topic
    with pytest.raises(ConfigurationError, match=r"no topic no\.such") as told:
        group_lag(mock_kafka, "no.such")
    assert "KAFKA_TOPIC" in told.value.remedy


def status_lag(*urls: str) -> int:
    async def ask() -> int:
        http = HttpClient()
        try:
            return await StatusLag(http, urls)()
        finally:
            await http.close()

    return asyncio.run(ask())


def test_the_lag_of_a_cluster_is_the_sum_of_what_its_processes_tell(status: Metrics) -> None:
    with pytest.raises(TransientError, match="tells no gibsey_consumer_lag yet"):
        status_lag(status.url)
    status.text = (
        "# TYPE gibsey_consumer_lag gauge\n"
        'gibsey_consumer_lag{partition="0"} 4.0\ngibsey_consumer_lag{partition="1"} 3.0\n'
    )
    assert status_lag(status.url) == 7
    assert status_lag(status.url, f"{status.url}/") == 14


class Falling:
    """A lag that falls by each look."""

    def __init__(self, *lags: int) -> None:
        self.lags = list(lags)

    async def __call__(self) -> int:
        return self.lags.pop(0) if len(self.lags) > 1 else self.lags[0]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_lag, "LOOK_EVERY_S", 0.0)


@pytest.mark.parametrize(
    ("lags", "left"), [((50, 11, 10, 9), [9]), ((10,), [10]), ((3, 2), [2]), ((90, 0, 5), [5])]
)
def test_it_waits_until_what_comes_leaves_the_lag_within_its_limit(
    lags: tuple[int, ...], left: list[int]
) -> None:
    falling = Falling(*lags)
    asyncio.run(Throttle(falling, 20, RetryPolicy(Console(quiet=True))).wait_for_room(10))
    assert falling.lags == left


def test_a_single_record_goes_into_an_empty_topic_whatever_the_limit() -> None:
    asyncio.run(Throttle(Falling(0), 5, RetryPolicy(Console(quiet=True))).wait_for_room(100))


def test_without_a_limit_nobody_is_asked() -> None:
    async def never() -> int:
        raise AssertionError

    asyncio.run(Throttle(never, 0, RetryPolicy(Console(quiet=True))).wait_for_room(100))


def test_a_stream_that_does_not_get_on_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_lag, "STANDSTILL_S", 0.0)
    console = Console(width=300)
    with console.capture() as said:
        stuck = Falling(50, 50, 50, 50, 5)
        asyncio.run(Throttle(stuck, 20, RetryPolicy(console)).wait_for_room(10))
    assert "50 records behind and does not get on" in said.get()
    assert "--status-url" in said.get()
