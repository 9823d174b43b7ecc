"""Compares the timestamps of Kafka's records with this machine's clock.

Kafka has no request for a broker's time. But a record with a timestamp in the future shows that a
clock is wrong, and then freshness is wrong too. If this machine's clock is ahead, the stream
seems to be late.
"""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.core.findings import Finding, bad, good, warning
from connectors.kafka.error_messages import plain
from connectors.kafka.error_monitor import text_of

CHECK = "kafka clock"
SKEW_S = 3.0
LARGE_SKEW_S = 60.0


def check_timestamps(consumer: Consumer, topic: str, partitions: int, timeout_s: float) -> Finding:
    """Check whether a topic has records with timestamps in the future.

    Args:
        consumer: A consumer, which requests offsets by time but reads no records.
        topic: The topic of the changes.
        partitions: Number of its partitions.
        timeout_s: Timeout of each of the two requests.
    """
    try:
        if not _has_records_ahead(consumer, topic, partitions, SKEW_S, timeout_s):
            return good(CHECK, f"no event of {topic} has a timestamp in the future")
        is_large = _has_records_ahead(consumer, topic, partitions, LARGE_SKEW_S, timeout_s)
    except KafkaException as error:
        found = f"offsets by time cannot be read: {plain(text_of(error))}"
        return warning(CHECK, found, "see the broker's log; the stream itself does not need them")
    ahead_s = LARGE_SKEW_S if is_large else SKEW_S
    found = (
        f"events of {topic} have timestamps more than {ahead_s:.0f} s in the future, so freshness "
        "is wrong"
    )
    remedy = (
        "synchronise the clocks (NTP) of this machine and of the topic's writers, or of the "
        "brokers if message.timestamp.type is LogAppendTime"
    )
    return bad(CHECK, found, remedy) if is_large else warning(CHECK, found, remedy)


def _has_records_ahead(
    consumer: Consumer, topic: str, partitions: int, ahead_s: float, timeout_s: float
) -> bool:
    """Whether a partition has a record whose timestamp is at least `ahead_s` in the future.

    Raises:
        KafkaException: The brokers do not respond.
    """
    at_ms = int((time.time() + ahead_s) * 1000)
    times = [TopicPartition(topic, number, at_ms) for number in range(partitions)]
    offsets = consumer.offsets_for_times(times, timeout=timeout_s)
    return any(entry.offset >= 0 for entry in offsets)
