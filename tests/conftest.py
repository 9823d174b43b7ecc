"""Fixtures with the fakes: real sockets, new for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.openai import OpenAI
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate

HISTORY = 100_000

# An example may take any time, because the machine may be busy.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Restore the log, which commands in the test's process configure."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    """An Ollama 0.24 that responds at once; tests may change its attributes at any time."""
    with Ollama() as fake:
        yield fake


@pytest.fixture
def stargate() -> Iterator[Stargate]:
    """A Stargate with the tables `page_vectors` and `pages`; token `demo-token`."""
    with Stargate(history=HISTORY) as fake:
        yield fake


@pytest.fixture
def rag() -> Iterator[Rag]:
    """A RAG service without a token."""
    with Rag() as fake:
        yield fake


@pytest.fixture
def mock_kafka() -> Iterator[MockKafka]:
    """A broker with `cdc.pages` (3 partitions) and `cdc.pages.dlq` (1)."""
    with MockKafka() as broker:
        yield broker


@pytest.fixture
def fake_openai() -> Iterator[OpenAI]:
    """An OpenAI-compatible server with the key `sk-demo` and vectors out of order."""
    with OpenAI() as fake:
        yield fake
