"""The doctor's findings about a real broker's topics.

Wanted: TEST_KAFKA_BROKER; for the ways in also what test_kafka_misconfiguration.py wants.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.core.findings import Finding
from connectors.kafka.config import KafkaConfig
from gibsey_embedder.doctor.kafka import check_kafka
from tests.real.test_kafka_misconfiguration import (
    MISSING,
    PASSWORD,
    ROWS,
    SASL,
    SASL_BROKER,
    TLS,
    TLS_BROKER,
)

BROKER = os.environ.get("TEST_KAFKA_BROKER", "")

pytestmark = [
    pytest.mark.real,
    pytest.mark.kafka,
    pytest.mark.skipif(not BROKER, reason="not given: TEST_KAFKA_BROKER"),
]


@pytest.fixture
def topic() -> Iterator[str]:
    """A topic that keeps too little and takes too much, and its dead-letter topic."""
    name = f"doctor.{secrets.token_hex(4)}"
    admin = AdminClient({"bootstrap.servers": BROKER})
    source = {"retention.ms": "3600000", "max.message.bytes": "3000000"}
    letters = {"cleanup.policy": "compact"}
    topics = [NewTopic(name, 2, 1, config=source), NewTopic(f"{name}.dlq", 1, 1, config=letters)]
    for made in admin.create_topics(topics).values():
        made.result(10)
    yield name
    for gone in admin.delete_topics([name, f"{name}.dlq"]).values():
        gone.result(10)


def _settled(topic: str) -> list[Finding]:
    """What is found once the new topic's partitions have their leaders."""
    give_up = time.monotonic() + 20
    while True:
        findings = check_kafka(KafkaConfig(BROKER, topic=topic), f"{topic}.dlq", workers=3)
        if all(f.result != "bad" for f in findings) or time.monotonic() > give_up:
            return findings


def test_the_limits_of_both_topics_are_read_and_judged(topic: str) -> None:
    findings = _settled(topic)
    reported = {(f.check, f.result, f.found) for f in findings}
    for check, result, words in (
        ("kafka", "good", "responds"),
        ("kafka topic", "warning", "2 partitions for 3 workers"),
        ("kafka position", "good", "the lag of the new group gibsey-embedder is 0 messages"),
        ("kafka clock", "good", "no event of"),
        ("kafka retention", "warning", "keeps messages for 1 h"),
        ("kafka dead letters", "warning", "is compacted"),
        ("kafka dead letters", "warning", "the source topic of 3,000,000"),
    ):
        assert any(c == check and r == result and words in f for c, r, f in reported), reported


def test_a_missing_topic_is_reported_and_not_created(topic: str) -> None:
    missing = f"{topic}.no"
    for _ in range(2):
        findings = check_kafka(KafkaConfig(BROKER, topic=missing), f"{missing}.dlq", workers=1)
        assert any(f"there is no topic {missing}" in f.found for f in findings), findings


@pytest.mark.parametrize(("ahead_s", "result"), [(20, "warning"), (3600, "bad")])
def test_events_from_the_future_are_reported(topic: str, ahead_s: int, result: str) -> None:
    _settled(topic)
    producer = Producer({"bootstrap.servers": BROKER})
    at_ms = int((time.time() + ahead_s) * 1000)
    producer.produce(topic, b"{}", timestamp=at_ms)
    assert producer.flush(20) == 0
    findings = check_kafka(KafkaConfig(BROKER, topic=topic), f"{topic}.dlq", workers=1)
    (found,) = (f for f in findings if f.check == "kafka clock")
    assert (found.result, "in the future" in found.found) == (result, True)
    assert "NTP" in found.remedy


@pytest.mark.skipif(bool(MISSING), reason=f"not given: {', '.join(MISSING)}")
@pytest.mark.parametrize("row", [row for row in ROWS if row != "topic missing"])
def test_each_misconfiguration_has_its_own_message(row: str) -> None:
    broker, access, reason, remedy = ROWS[row]
    (found,) = check_kafka(KafkaConfig(broker, topic="cdc.pages", **access), "letters", workers=1)
    assert found.result == "bad"
    assert reason in found.found
    assert remedy in found.remedy
    assert PASSWORD not in found.found + found.remedy


@pytest.mark.skipif(bool(MISSING), reason=f"not given: {', '.join(MISSING)}")
@pytest.mark.parametrize(
    ("broker", "access", "words"),
    [(TLS_BROKER, TLS, "responds with TLS"), (SASL_BROKER, SASL, "responds with login")],
    ids=["TLS", "SASL"],
)
def test_the_right_way_in_is_good(broker: str, access: dict[str, Any], words: str) -> None:
    first, *_ = check_kafka(KafkaConfig(broker, topic="no.such", **access), "letters", workers=1)
    assert (first.result, words in first.found) == ("good", True)
