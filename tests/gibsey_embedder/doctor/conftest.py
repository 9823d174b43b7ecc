"""The doctor with fakes of all services."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import ssl
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from connectors.observability import logs
from dataflow.config.settings import Settings, load_settings
from gibsey_embedder.cli import app
from gibsey_embedder.doctor import doctor, kafka
from gibsey_embedder.doctor.embedder import Limits
from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from tests.gibsey_embedder.doctor.doctor_report import (
    GOOD_LIMITS,
    DoctorReport,
    RunDoctor,
    TopicLimits,
)

AUTHORITIES = functools.cache(ssl.create_default_context)
"""Reading the system's certificates for each run takes longer than everything else."""


@pytest.fixture
def topic_limits() -> dict[str, dict[str, str]]:
    """The settings of the topics, which the mock broker does not support."""
    return {topic: dict(values) for topic, values in GOOD_LIMITS.items()}


@pytest.fixture
def set_settings(
    ollama: Ollama,
    stargate: Stargate,
    rag: Rag,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """Set settings, by default those of the fakes; the doctor does not check Kafka."""
    for name in list(os.environ):
        if name in Settings.names() or name.startswith("BYTEWAX_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(doctor, "check_kafka", lambda *_: [])
    monkeypatch.setattr(ssl, "create_default_context", AUTHORITIES)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    # a thread of an earlier test may still log, and must not write into the output of the doctor
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.__stderr__))
    settings = {
        "EMBED_URL": ollama.embed_url,
        "STARGATE_URL": stargate.url,
        "STARGATE_AUTH_TOKEN": TOKEN,
        "RAG_REFRESH_URL": rag.refresh_url,
    }

    def set_all(**changed: str) -> None:
        for name, value in (settings | changed).items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.fixture
def run_doctor(set_settings: Callable[..., None]) -> RunDoctor:
    """Run `doctor --json` with options and settings; by default, all services are good.

    It does not check Kafka; `run_doctor_with_kafka` does.
    """

    def run(*options: str, **changed: str) -> DoctorReport:
        set_settings(**changed)
        result = CliRunner().invoke(app, ["doctor", "--json", *options])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return DoctorReport(result.exit_code, result.stdout)

    return run


@pytest.fixture
def run_checks(set_settings: Callable[..., None]) -> RunDoctor:
    """Run the checks with other limits; the other arguments are settings."""

    def run(
        *,
        timeout_s: float = doctor.CHECK_TIMEOUT_S,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        send_test: bool = False,
        **changed: str,
    ) -> DoctorReport:
        set_settings(**changed)
        checks = doctor.run_checks(
            load_settings(), send_test=send_test, timeout_s=timeout_s, limits=limits
        )
        findings = [asdict(finding) for finding in asyncio.run(checks)]
        exit_code = int(any(finding["result"] == "bad" for finding in findings))
        return DoctorReport(exit_code, json.dumps({"checks": findings}))

    return run


@pytest.fixture
def run_doctor_with_kafka(
    run_doctor: RunDoctor,
    mock_kafka: MockKafka,
    topic_limits: TopicLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> RunDoctor:
    """Run `doctor --json` and check Kafka too."""
    check_kafka = functools.partial(
        kafka.check_kafka,
        timeouts_s=(0.7,),
        read_limits=lambda _, topics: {name: topic_limits[name] for name in topics},
    )
    monkeypatch.setattr(doctor, "check_kafka", check_kafka)
    monkeypatch.setenv("KAFKA_BROKER", mock_kafka.broker)
    return run_doctor
