"""The doctor over the stand-ins."""

from __future__ import annotations

import functools
import os
import ssl
import sys
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from connectors.observability import logs
from dataflow.config.settings import Settings
from gibsey_embedder.cli import app
from gibsey_embedder.doctor import doctor, kafka, kafka_limits
from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from gibsey_embedder.topic import error_listener
from tests.gibsey_embedder.doctor.examination import GOOD_LIMITS, Examine, Examined, Limits

AUTHORITIES = functools.cache(ssl.create_default_context)
"""Reading the system's authorities anew for each run takes longer than all the rest."""


@pytest.fixture
def limits() -> dict[str, dict[str, str]]:
    """What the broker tells of the topics' settings; the mock one cannot be asked."""
    return {topic: dict(values) for topic, values in GOOD_LIMITS.items()}


@pytest.fixture
def examine(
    ollama: Ollama,
    stargate: Stargate,
    rag: Rag,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Examine:
    """Runs `doctor --json` with options and settings; all is well unless they say otherwise.

    Kafka is left out: `examine_kafka` asks it, too.
    """
    for name in list(os.environ):
        if name in Settings.names() or name.startswith("BYTEWAX_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "check_kafka", lambda *_: [])
    monkeypatch.setattr(ssl, "create_default_context", AUTHORITIES)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    # a thread of an earlier test may still say something, and not into what is read here
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    settings = {
        "EMBED_URL": ollama.embed_url,
        "STARGATE_URL": stargate.url,
        "STARGATE_AUTH_TOKEN": TOKEN,
        "RAG_REFRESH_URL": rag.refresh_url,
    }

    def run(*options: str, **changed: str) -> Examined:
        for name, value in (settings | changed).items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, ["doctor", "--json", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Examined(result.exit_code, result.stdout)

    return run


@pytest.fixture
def examine_kafka(
    examine: Examine, mock_kafka: MockKafka, limits: Limits, monkeypatch: pytest.MonkeyPatch
) -> Examine:
    """The same with Kafka."""
    monkeypatch.setattr(doctor, "check_kafka", kafka.check_kafka)
    monkeypatch.setattr(error_listener, "TRIES_S", (0.7,))
    monkeypatch.setattr(
        kafka_limits, "read_limits", lambda _, topics: {name: limits[name] for name in topics}
    )
    monkeypatch.setenv("KAFKA_BROKER", mock_kafka.broker)
    return examine
