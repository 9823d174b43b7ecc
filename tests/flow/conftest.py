"""A stream of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.kafka import MockKafka
from demo.ollama import Ollama
from demo.rag import Rag
from demo.stargate import Stargate
from tests.flow.stream import Stream


@pytest.fixture
def stream(
    tmp_path: Path, mock_kafka: MockKafka, ollama: Ollama, stargate: Stargate, rag: Rag
) -> Iterator[Stream]:
    """Stand-ins, and workers that end with the test; their logs are shown when it fails."""
    stream = Stream(tmp_path, mock_kafka, ollama, stargate, rag)
    try:
        yield stream
    finally:
        stream.end()
