"""What the doctor says of Kafka; each fault is really there.

Clocks and the topics' own limits are in tests/real: the mock broker knows neither.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from gibsey_embedder.doctor import kafka_limits
from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.topic import error_listener
from tests.flow.worker import free_port
from tests.gibsey_embedder import listeners
from tests.gibsey_embedder.doctor.examination import Examine
from tests.gibsey_embedder.listeners import tls

READ_LIMITS = kafka_limits.read_limits


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """A certificate that nobody trusts, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    paths = (str(tmp_path / "certificate.pem"), str(tmp_path / "key.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=other"]
    command += ["-days", "2", "-out", paths[0], "-keyout", paths[1]]
    subprocess.run(command, check=True, capture_output=True)
    return paths


LOGIN = {"KAFKA_USERNAME": "u", "KAFKA_PASSWORD": "s3cret"}


@pytest.mark.parametrize(
    ("serve", "settings", "words"),
    [
        (tls(), {}, ("that port speaks TLS", "kafka+ssl://")),
        (listeners.kafka(listeners.wants_login), {}, ("requires a login", "set KAFKA_USERNAME")),
        (listeners.kafka(listeners.wants_login), LOGIN, ("refuses the login", "KAFKA_PASSWORD")),
        (
            listeners.kafka(listeners.other_mechanism),
            LOGIN | {"KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
            ("login mechanism SCRAM-SHA-256", "PLAIN"),
        ),
        (
            listeners.kafka(listeners.takes_no_login),
            LOGIN,
            ("not accept a login", "remove KAFKA_USERNAME"),
        ),
        (lambda c: c.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), {}, ("like Kafka", "own port")),
    ],
    ids=["speaks TLS", "wants login", "password", "mechanism", "no login", "no Kafka"],
)
def test_each_wrong_way_to_kafka_is_told_apart(
    examine_kafka: Examine, serve: Any, settings: dict[str, str], words: tuple[str, ...]
) -> None:
    with listeners.listening(serve) as broker:
        examined = examine_kafka(KAFKA_BROKER=broker, **settings)
    examined.told("kafka", "bad", *words)
    assert "s3cret" not in examined.output


def test_tls_to_a_plain_port_is_told(examine_kafka: Examine, mock_kafka: MockKafka) -> None:
    with listeners.listening(listeners.deaf) as broker:
        examined = examine_kafka(KAFKA_BROKER=f"kafka+ssl://{broker}")
    examined.told("kafka", "bad", "does not speak TLS", "without kafka+ssl://")


def test_a_certificate_that_is_not_trusted_is_told(
    examine_kafka: Examine, certificate: tuple[str, str]
) -> None:
    with listeners.listening(tls(*certificate)) as broker:
        examined = examine_kafka(KAFKA_BROKER=f"kafka+ssl://{broker}")
    examined.told("kafka", "bad", "not trusted", "KAFKA_CA_FILE")


def test_a_broker_that_is_down_or_unknown_is_told(examine_kafka: Examine) -> None:
    examine_kafka(KAFKA_BROKER=f"127.0.0.1:{free_port()}").told(
        "kafka", "bad", "refused", "start Kafka"
    )
    unknown = examine_kafka(KAFKA_BROKER="no-such-host.invalid:9092")
    unknown.told("kafka", "bad", "is not known here", "KAFKA_BROKER")


def test_options_that_librdkafka_refuses_are_told(examine_kafka: Examine, tmp_path: Path) -> None:
    examine_kafka(KAFKA_OPTIONS='{"no.such": 1}').told("kafka", "bad", "'no.such'", "KAFKA_OPTIONS")
    (tmp_path / "empty.pem").write_text("")
    examined = examine_kafka(KAFKA_CA_FILE=str(tmp_path / "empty.pem"), KAFKA_OPTIONS="{}")
    assert examined.code in (1, 2)
    assert "KAFKA_CA_FILE" in examined.output


def test_a_missing_topic_is_told_with_those_that_are_alike(examine_kafka: Examine) -> None:
    examined = examine_kafka(KAFKA_TOPIC="gibsey.pages")
    examined.told("kafka topic", "bad", "no topic gibsey.pages", "there is cdc.pages", "create it")
    examined.told("kafka dead letters", "warning", "gibsey.pages.dlq", "create it")


def test_more_workers_than_partitions_are_told(examine_kafka: Examine) -> None:
    examined = examine_kafka(WORKERS="5")
    examined.told("kafka topic", "warning", "3 partitions", "2 of them read nothing", "WORKERS")


def test_workers_of_all_processes_are_counted(
    examine_kafka: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "1")
    monkeypatch.setenv("BYTEWAX_ADDRESSES", "a:1;b:1")
    examined = examine_kafka(WORKERS="2")
    examined.told("cluster", "good", "process 1 of 2, at b:1")
    examined.told("kafka topic", "warning", "1 of them read nothing")


def test_a_cluster_that_cannot_start_is_told(
    examine: Examine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BYTEWAX_PROCESS_ID", "2")
    monkeypatch.setenv("BYTEWAX_ADDRESSES", "a:1;b:1")
    examine().told("cluster", "bad", "-i is 2, but -a has 2 addresses")
    monkeypatch.delenv("BYTEWAX_ADDRESSES")
    monkeypatch.setenv("BYTEWAX_HOSTFILE_PATH", str(tmp_path / "hosts"))
    examine().told("cluster", "bad", "BYTEWAX_HOSTFILE_PATH", "cannot be read")


def test_a_position_that_retention_has_passed_is_told(
    examine_kafka: Examine, mock_kafka: MockKafka
) -> None:
    for number in range(5):
        mock_kafka.produce("cdc.pages", "k", str(number), partition=0)
    mock_kafka.flush()
    consumer = Consumer({"bootstrap.servers": mock_kafka.broker, "group.id": "gibsey-embedder"})
    consumer.commit(offsets=[TopicPartition("cdc.pages", 0, 1)], asynchronous=False)
    consumer.close()
    examine_kafka().told("kafka position", "good", "4 messages wait")
    mock_kafka.delete_records("cdc.pages", 0, 3)
    examine_kafka().told("kafka position", "bad", "2 changes were deleted", "backfill")


def test_topics_that_keep_too_little_are_told(
    examine_kafka: Examine, limits: dict[str, dict[str, str]]
) -> None:
    limits["cdc.pages"] |= {"retention.ms": "3600000", "max.message.bytes": "2000000"}
    limits["cdc.pages.dlq"] |= {"cleanup.policy": "compact"}
    examined = examine_kafka()
    examined.told("kafka retention", "warning", "cdc.pages is kept for 1 h", "retention.ms")
    examined.told("kafka dead letters", "warning", "is compacted", "cleanup.policy")
    examined.told("kafka dead letters", "warning", "1,048,588 bytes", "max.message.bytes")


def test_a_broker_that_does_not_tell_its_limits_is_told(
    examine_kafka: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_limits, "read_limits", READ_LIMITS)
    monkeypatch.setattr(kafka_limits, "CONFIG_S", 0.3)
    examine_kafka().told("kafka limits", "warning", "cannot be read", "does not need them")


FIND_COORDINATOR, OFFSET_FETCH, LIST_OFFSETS = 10, 9, 2
"""Kafka's numbers for the questions that are denied here."""


def test_a_topic_that_the_login_may_not_read_is_told(
    examine_kafka: Examine, mock_kafka: MockKafka
) -> None:
    mock_kafka.deny_topic("cdc.pages", KafkaError.TOPIC_AUTHORIZATION_FAILED)
    examine_kafka().told("kafka topic", "bad", "may not read", "allow it Read and Describe")
    mock_kafka.deny_topic("cdc.pages", KafkaError.INVALID_REPLICATION_FACTOR)
    examine_kafka().told("kafka topic", "bad", "cdc.pages: ", "ask its operator")


@pytest.mark.parametrize("question", [FIND_COORDINATOR, OFFSET_FETCH])
def test_a_group_that_the_login_may_not_use_is_told(
    examine_kafka: Examine, mock_kafka: MockKafka, question: int
) -> None:
    mock_kafka.deny_requests(question, KafkaError.GROUP_AUTHORIZATION_FAILED, 50)
    examine_kafka().told("kafka position", "bad", "may not use the group", "KAFKA_GROUP")


def test_partitions_without_a_leader_are_told(
    examine_kafka: Examine, mock_kafka: MockKafka
) -> None:
    mock_kafka.deny_requests(LIST_OFFSETS, KafkaError.NOT_LEADER_FOR_PARTITION, 50)
    examined = examine_kafka()
    examined.told("kafka position", "bad", "position cannot be read", "all brokers are up")
    examined.told("kafka clock", "warning", "cannot be asked for", "broker's log")


def test_a_topic_that_keeps_all_or_by_size_is_good(
    examine_kafka: Examine, limits: dict[str, dict[str, str]]
) -> None:
    limits["cdc.pages"] |= {"retention.ms": "-1", "retention.bytes": "1000000"}
    examined = examine_kafka()
    examined.told("kafka retention", "good", "up to 1,000,000 bytes")
    examined.told("kafka retention", "good", "cdc.pages.dlq is kept without end")


def test_limits_that_the_login_may_not_see_are_told(
    examine_kafka: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise KafkaException(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))

    monkeypatch.setattr(kafka_limits, "read_limits", refuse)
    examine_kafka().told("kafka limits", "warning", "uthoriz", "DescribeConfigs")


def test_a_broker_that_says_nothing_is_told(
    examine_kafka: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(error_listener, "TRIES_S", (0.2, 0.2))
    with listeners.listening(listeners.silent) as broker:
        examine_kafka(KAFKA_BROKER=broker).told("kafka", "bad", broker, "KAFKA_BROKER")
