"""The streams of tests/faults with a real Kafka instead of the fake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.flow.stream import Stream
from tests.real.kafka import RealKafka


@pytest.fixture
def kafka(kafka_broker: str) -> Iterator[RealKafka]:
    """The real broker, with topics of the test's own; it runs again after the test."""
    broker = RealKafka(kafka_broker)
    yield broker
    broker.remove()


@pytest.fixture
def stream(
    tmp_path: Path, kafka: RealKafka, ollama: Ollama, stargate: Stargate, rag: Rag
) -> Iterator[Stream]:
    """A real Kafka, and fakes of the other services."""
    stream = Stream(
        tmp_path,
        kafka,
        ollama,
        stargate,
        rag,
        topic=kafka.topic,
        dead_letter_topic=kafka.dead_letter_topic,
        group=kafka.group,
    )
    try:
        yield stream
    finally:
        stream.end()
