"""What the doctor says of a real broker's topics.

Wanted: TEST_KAFKA_BROKER.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka import KafkaAccess
from ops.checks.finding import Finding
from ops.checks.kafka import check_kafka

BROKER = os.environ.get("TEST_KAFKA_BROKER", "")

pytestmark = [
    pytest.mark.real,
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
        findings = check_kafka(KafkaAccess(BROKER, topic=topic), f"{topic}.dlq", workers=3)
        if all(f.result != "bad" for f in findings) or time.monotonic() > give_up:
            return findings


def test_the_limits_of_both_topics_are_read_and_judged(topic: str) -> None:
    findings = _settled(topic)
    told = {(f.check, f.result, f.found) for f in findings}
    for check, result, words in (
        ("kafka", "good", "answers"),
        ("kafka topic", "warning", "2 partitions, but WORKERS is 3"),
        ("kafka position", "good", "0 messages wait for new group"),
        ("kafka retention", "warning", "is kept for 1 h"),
        ("kafka dead letters", "warning", "is compacted"),
        ("kafka dead letters", "warning", "the source 3,000,000"),
    ):
        assert any(c == check and r == result and words in f for c, r, f in told), told


def test_a_topic_that_is_not_there_is_told_and_not_made(topic: str) -> None:
    missing = f"{topic}.no"
    for _ in range(2):
        findings = check_kafka(KafkaAccess(BROKER, topic=missing), f"{missing}.dlq", workers=1)
        assert any(f"there is no topic {missing}" in f.found for f in findings), findings
