"""Kafka's clock, or that of who writes to it, against ours.

A broker tells its time to nobody who only asks. But freshness is measured from the records'
timestamps, and one that lies in the future shows that a clock is wrong. (That ours is ahead cannot
be told from a stream that is late.)
"""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from connectors.kafka.error_messages import plain
from connectors.kafka.error_monitor import text_of
from gibsey_embedder.doctor.findings import Finding, bad, good, warning

CHECK = "kafka clock"
SKEW_S = 3.0
FAR_S = 60.0


def check_stamps(consumer: Consumer, topic: str, partitions: int, timeout_s: float) -> Finding:
    """Look for records of a topic that are stamped in the future.

    Args:
        consumer: Asked for offsets by time; it reads nothing.
        topic: The topic with the changes.
        partitions: How many it has.
        timeout_s: How long the brokers may take, twice.
    """
    try:
        if not _stamped(consumer, topic, partitions, SKEW_S, timeout_s):
            return good(CHECK, f"no event of {topic} is stamped in the future")
        is_far = _stamped(consumer, topic, partitions, FAR_S, timeout_s)
    except KafkaException as error:
        found = f"offsets by time cannot be asked for: {plain(text_of(error))}"
        return warning(CHECK, found, "see the broker's log; the stream itself needs them not")
    ahead_s = FAR_S if is_far else SKEW_S
    found = (
        f"events of {topic} are stamped more than {ahead_s:.0f} s in the future: freshness is "
        "measured wrong"
    )
    remedy = (
        "synchronise the clocks (NTP) of this machine and of who writes to the topic, or of the "
        "brokers where its message.timestamp.type is LogAppendTime"
    )
    return bad(CHECK, found, remedy) if is_far else warning(CHECK, found, remedy)


def _stamped(
    consumer: Consumer, topic: str, partitions: int, ahead_s: float, timeout_s: float
) -> bool:
    """Whether a partition has a record of so far in the future.

    Raises:
        KafkaException: The brokers do not tell.
    """
    at_ms = int((time.time() + ahead_s) * 1000)
    asked = [TopicPartition(topic, number, at_ms) for number in range(partitions)]
    found = consumer.offsets_for_times(asked, timeout=timeout_s)
    return any(place.offset >= 0 for place in found)
