"""The doctor and Kafka: each problem is real.

Clocks and the settings of topics are in tests/real, because the mock broker has neither.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from gibsey_embedder.doctor import doctor, kafka
from gibsey_embedder.doctor.kafka_limits import read_limits
from gibsey_embedder.fakes.kafka import MockKafka
from tests.flow.worker import free_port
from tests.gibsey_embedder import listeners
from tests.gibsey_embedder.doctor.doctor_report import RunDoctor
from tests.gibsey_embedder.listeners import tls


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """An untrusted certificate and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("the test needs openssl for a certificate")
    paths = (str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"]
    command += ["-days", "2", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


LOGIN = {"KAFKA_USERNAME": "u", "KAFKA_PASSWORD": "s3cret"}


@pytest.mark.parametrize(
    ("serve", "settings", "texts"),
    [
        (tls(), {}, ("that port speaks TLS", "kafka+ssl://")),
        (listeners.kafka(listeners.requires_login), {}, ("requires a login", "set KAFKA_USERNAME")),
        (listeners.kafka(listeners.requires_login), LOGIN, ("refuses the login", "KAFKA_PASSWORD")),
        (
            listeners.kafka(listeners.other_mechanism),
            LOGIN | {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
            ("login mechanism SCRAM-SHA-256", "PLAIN"),
        ),
        (
            listeners.kafka(listeners.accepts_no_login),
            LOGIN,
            ("not accept a login", "remove KAFKA_USERNAME"),
        ),
        (
            lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            {},
            ("not a Kafka broker", "own port"),
        ),
    ],
    ids=["TLS", "login required", "password", "mechanism", "no login", "not Kafka"],
)
def test_each_kafka_misconfiguration_has_its_own_finding(
    run_doctor_with_kafka: RunDoctor, serve: Any, settings: dict[str, str], texts: tuple[str, ...]
) -> None:
    with listeners.listening(serve) as broker:
        report = run_doctor_with_kafka(KAFKA_BROKER=broker, **settings)
    report.assert_finding("kafka", "bad", *texts)
    assert "s3cret" not in report.output


def test_tls_to_a_plain_port_is_reported(
    run_doctor_with_kafka: RunDoctor, mock_kafka: MockKafka
) -> None:
    with listeners.listening(listeners.closing) as broker:
        report = run_doctor_with_kafka(KAFKA_BROKER=f"kafka+ssl://{broker}")
    report.assert_finding("kafka", "bad", "does not speak TLS", "without kafka+ssl://")


def test_a_certificate_that_is_not_trusted_is_reported(
    run_doctor_with_kafka: RunDoctor, certificate: tuple[str, str]
) -> None:
    with listeners.listening(tls(*certificate)) as broker:
        report = run_doctor_with_kafka(KAFKA_BROKER=f"kafka+ssl://{broker}")
    report.assert_finding("kafka", "bad", "not trusted", "KAFKA_CA_FILE")


def test_a_broker_that_is_down_or_unknown_is_reported(run_doctor_with_kafka: RunDoctor) -> None:
    run_doctor_with_kafka(KAFKA_BROKER=f"127.0.0.1:{free_port()}").assert_finding(
        "kafka", "bad", "refused", "start Kafka"
    )
    unknown = run_doctor_with_kafka(KAFKA_BROKER="no-such-host.invalid:9092")
    unknown.assert_finding("kafka", "bad", "is not known here", "KAFKA_BROKER")


def test_options_that_librdkafka_refuses_are_reported(
    run_doctor_with_kafka: RunDoctor, tmp_path: Path
) -> None:
    run_doctor_with_kafka(KAFKA_OPTIONS='{"no.such": 1}').assert_finding(
        "kafka", "bad", "'no.such'", "KAFKA_OPTIONS"
    )
    (tmp_path / "empty.pem").write_text("")
    report = run_doctor_with_kafka(KAFKA_CA_FILE=str(tmp_path / "empty.pem"), KAFKA_OPTIONS="{}")
    assert report.exit_code in (1, 2)
    assert "KAFKA_CA_FILE" in report.output


def test_a_missing_topic_is_reported_with_similar_topics(run_doctor_with_kafka: RunDoctor) -> None:
    report = run_doctor_with_kafka(KAFKA_TOPIC="gibsey.pages")
    report.assert_finding(
        "kafka topic", "bad", "no topic gibsey.pages", "there is cdc.pages", "create it"
    )
    report.assert_finding("kafka dead letters", "warning", "gibsey.pages.dlq", "create it")


def test_more_workers_than_partitions_are_reported(run_doctor_with_kafka: RunDoctor) -> None:
    report = run_doctor_with_kafka(WORKERS="5")
    report.assert_finding(
        "kafka topic", "warning", "3 partitions", "2 of them read nothing", "WORKERS"
    )


def test_workers_of_all_processes_are_counted(
    run_doctor_with_kafka: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "1")
    monkeypatch.setenv("BYTEWAX_ADDRESSES", "a:1;b:1")
    report = run_doctor_with_kafka(WORKERS="2")
    report.assert_finding("cluster", "good", "process 1 of 2, at b:1")
    report.assert_finding("kafka topic", "warning", "1 of them read nothing")


def test_a_cluster_that_cannot_start_is_reported(
    run_doctor: RunDoctor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "2")
    monkeypatch.setenv("BYTEWAX_ADDRESSES", "a:1;b:1")
    run_doctor().assert_finding("cluster", "bad", "-i is 2, but -a has 2 addresses")
    monkeypatch.delenv("BYTEWAX_ADDRESSES")
    monkeypatch.setenv("BYTEWAX_HOSTFILE_PATH", str(tmp_path / "hosts"))
    run_doctor().assert_finding("cluster", "bad", "BYTEWAX_HOSTFILE_PATH", "cannot be read")


def test_a_position_that_retention_deleted_is_reported(
    run_doctor_with_kafka: RunDoctor, mock_kafka: MockKafka
) -> None:
    for number in range(5):
        mock_kafka.produce("cdc.pages", "k", str(number), partition=0)
    mock_kafka.flush()
    consumer = Consumer({"bootstrap.servers": mock_kafka.broker, "group.id": "gibsey-embedder"})
    consumer.commit(offsets=[TopicPartition("cdc.pages", 0, 1)], asynchronous=False)
    consumer.close()
    run_doctor_with_kafka().assert_finding(
        "kafka position", "good", "the lag of the group gibsey-embedder is 4 messages"
    )
    mock_kafka.delete_records("cdc.pages", 0, 3)
    run_doctor_with_kafka().assert_finding(
        "kafka position", "bad", "2 changes were deleted", "backfill"
    )


def test_topics_with_a_short_retention_are_reported(
    run_doctor_with_kafka: RunDoctor, topic_limits: dict[str, dict[str, str]]
) -> None:
    topic_limits["cdc.pages"] |= {"retention.ms": "3600000", "max.message.bytes": "2000000"}
    topic_limits["cdc.pages.dlq"] |= {"cleanup.policy": "compact"}
    report = run_doctor_with_kafka()
    report.assert_finding(
        "kafka retention", "warning", "cdc.pages keeps messages for 1 h", "retention.ms"
    )
    report.assert_finding("kafka dead letters", "warning", "is compacted", "cleanup.policy")
    report.assert_finding("kafka dead letters", "warning", "1,048,588 bytes", "max.message.bytes")


def test_a_broker_without_topic_settings_is_reported(
    run_doctor_with_kafka: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = functools.partial(read_limits, timeout_s=0.3)
    check_kafka = functools.partial(kafka.check_kafka, read_limits=read)
    monkeypatch.setattr(doctor, "check_kafka", check_kafka)
    run_doctor_with_kafka().assert_finding(
        "kafka limits", "warning", "cannot be read", "does not need them"
    )


FIND_COORDINATOR, OFFSET_FETCH, LIST_OFFSETS = 10, 9, 2
"""Kafka's API keys of the requests that are denied here."""


def test_a_topic_that_the_login_may_not_read_is_reported(
    run_doctor_with_kafka: RunDoctor, mock_kafka: MockKafka
) -> None:
    mock_kafka.deny_topic("cdc.pages", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    run_doctor_with_kafka().assert_finding(
        "kafka topic", "bad", "may not read", "allow it Read and Describe"
    )
    mock_kafka.deny_topic("cdc.pages", KafkaError.INVALID_REPLICATION_FACTOR)
    run_doctor_with_kafka().assert_finding("kafka topic", "bad", "cdc.pages: ", "ask the operator")


@pytest.mark.parametrize("api", [FIND_COORDINATOR, OFFSET_FETCH])
def test_a_group_that_the_login_may_not_use_is_reported(
    run_doctor_with_kafka: RunDoctor, mock_kafka: MockKafka, api: int
) -> None:
    mock_kafka.deny_requests(api, KafkaError.GROUP_AUTHORIZATION_FAILED, 50)
    run_doctor_with_kafka().assert_finding(
        "kafka position", "bad", "may not use the group", "KAFKA_GROUP"
    )


def test_partitions_without_a_leader_are_reported(
    run_doctor_with_kafka: RunDoctor, mock_kafka: MockKafka
) -> None:
    mock_kafka.deny_requests(LIST_OFFSETS, KafkaError.NOT_LEADER_FOR_PARTITION, 50)
    report = run_doctor_with_kafka()
    report.assert_finding("kafka position", "bad", "position cannot be read", "all brokers are up")
    report.assert_finding("kafka clock", "warning", "cannot be read", "broker's log")


def test_a_topic_without_retention_time_is_good(
    run_doctor_with_kafka: RunDoctor, topic_limits: dict[str, dict[str, str]]
) -> None:
    topic_limits["cdc.pages"] |= {"retention.ms": "-1", "retention.bytes": "1000000"}
    report = run_doctor_with_kafka()
    report.assert_finding("kafka retention", "good", "up to 1,000,000 bytes")
    report.assert_finding("kafka retention", "good", "cdc.pages.dlq keeps all messages")


def test_limits_that_the_login_may_not_see_are_reported(
    run_doctor_with_kafka: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))

    check_kafka = functools.partial(kafka.check_kafka, read_limits=refuse)
    monkeypatch.setattr(doctor, "check_kafka", check_kafka)
    run_doctor_with_kafka().assert_finding("kafka limits", "warning", "uthoriz", "DescribeConfigs")


def test_a_broker_that_does_not_respond_is_reported(
    run_doctor_with_kafka: RunDoctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_kafka = functools.partial(kafka.check_kafka, timeouts_s=(0.2, 0.2))
    monkeypatch.setattr(doctor, "check_kafka", check_kafka)
    with listeners.listening(listeners.silent) as broker:
        run_doctor_with_kafka(KAFKA_BROKER=broker).assert_finding(
            "kafka", "bad", broker, "KAFKA_BROKER"
        )
