"""The stand-ins, as fixtures: real sockets, a fresh one for each test."""

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

# An example may take as long as it likes on a machine that is busy with other things.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Commands that run in a test's own process set up the log, for the tests that follow too."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    """An Ollama 0.24 that takes no time; its attributes may be changed at any moment."""
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
    """An OpenAI-compatible server; key `sk-demo`, answers out of order."""
    with OpenAI() as fake:
        yield fake
