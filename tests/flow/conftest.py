"""Fixtures with a new stream for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.flow.stream import Stream


@pytest.fixture
def stream(
    tmp_path: Path, mock_kafka: MockKafka, ollama: Ollama, stargate: Stargate, rag: Rag
) -> Iterator[Stream]:
    """Fakes, and workers that end with the test; a failed test shows their logs."""
    stream = Stream(tmp_path, mock_kafka, ollama, stargate, rag)
    try:
        yield stream
    finally:
        stream.end()
