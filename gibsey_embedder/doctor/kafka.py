"""Kafka: reachable, logged in, topic, positions, timestamps, dead-letter topic, retention."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.kafka import error_messages
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_monitor import code_of, text_of
from gibsey_embedder.doctor.findings import Finding, bad, good, warning
from gibsey_embedder.doctor.kafka_clock import check_stamps
from gibsey_embedder.doctor.kafka_limits import check_limits
from gibsey_embedder.topic.error_listener import ErrorListener, ask

ASK_S = 2.0
TOLD_S = 0.3
"""How long an error that is there already may take to be read."""
ELECTION_S = 0.5
"""Given to a partition whose leader is being elected, before it is asked once more."""
_LIKE_PAGES = 5


def check_kafka(config: KafkaConfig, dead_letter_topic: str, workers: int) -> list[Finding]:
    """Ask Kafka for what the stream will want; blocks for up to 17 s.

    Args:
        config: How Kafka is reached.
        dead_letter_topic: `DEAD_LETTER_TOPIC`.
        workers: Worker threads of all processes.
    """
    hearing = ErrorListener(config)
    try:
        consumer = Consumer({**config.consumer_config(), **hearing.callbacks()})
    except KafkaException as error:
        hearing.take(text_of(error))
        return [_unreachable(config, hearing, text_of(error))]
    try:
        topics = _topics(consumer, hearing)
        if isinstance(topics, str):
            return [_unreachable(config, hearing, topics)]
        used = [n for n, on in (("TLS", config.uses_tls), ("login", config.uses_login)) if on]
        with_what = f" with {' and '.join(used)}" if used else ""
        reached = good("kafka", f"{config.brokers} answers{with_what}")
        return [reached, *_check_topics(consumer, config, dead_letter_topic, workers, topics)]
    finally:
        consumer.close()


def _topics(consumer: Consumer, hearing: ErrorListener) -> dict[str, int] | str:
    """How many partitions each topic has that can be used, or why nobody tells."""
    try:
        found = ask(lambda within_s: consumer.list_topics(timeout=within_s), consumer, hearing)
    except KafkaException as error:
        return text_of(error)
    usable = {name: topic for name, topic in found.topics.items() if topic.error is None}
    return {name: len(topic.partitions) for name, topic in usable.items()}


def _unreachable(config: KafkaConfig, hearing: ErrorListener, text: str) -> Finding:
    words = hearing.cause()
    if words is None:
        found = f"no broker of {config.brokers} can be used: {error_messages.plain(text)}"
        return bad("kafka", found, "start Kafka, or correct KAFKA_BROKER and KAFKA_OPTIONS")
    remedy = words.remedy or "start Kafka, or correct KAFKA_BROKER"
    return bad("kafka", words.reason, remedy)


def _check_topics(
    consumer: Consumer,
    config: KafkaConfig,
    dead_letter_topic: str,
    workers: int,
    topics: Mapping[str, int],
) -> list[Finding]:
    findings = []
    if config.topic in topics:
        findings.append(_partitions(config.topic, topics[config.topic], workers))
        findings.append(_positions(consumer, config, topics[config.topic]))
        findings.append(check_stamps(consumer, config.topic, topics[config.topic], ASK_S))
    else:
        findings.append(_missing(consumer, config, topics))
    findings.append(_dead_letters(dead_letter_topic, topics))
    present = [topic for topic in (config.topic, dead_letter_topic) if topic in topics]
    return findings + (check_limits(config, present) if present else [])


def _partitions(topic: str, partitions: int, workers: int) -> Finding:
    plural = "" if partitions == 1 else "s"
    found = f"{topic} has {partitions} partition{plural}"
    if workers > partitions:
        return warning(
            "kafka topic",
            f"{found} for {workers} workers: {workers - partitions} of them read nothing",
            f"start {partitions} in all (WORKERS, processes), or give the topic more partitions",
        )
    return good("kafka topic", f"{found} for {workers} worker{'' if workers == 1 else 's'}")


def _missing(consumer: Consumer, config: KafkaConfig, topics: Mapping[str, int]) -> Finding:
    """The topic is not among those that the login sees: it is not there, or not allowed."""
    code = KafkaError.UNKNOWN_TOPIC_OR_PART
    try:
        asked = consumer.list_topics(config.topic, timeout=ASK_S).topics.get(config.topic)
        code = asked.error.code() if asked and asked.error else code
    except KafkaException as error:
        code = code_of(error)
    told = error_messages.of_code(code, config)
    if told is None:
        return bad("kafka topic", f"{config.topic}: {KafkaError(code).str()}", "ask its operator")
    like = sorted(name for name in topics if name.endswith((".pages", "-pages")))[:_LIKE_PAGES]
    there = f"; there is {', '.join(like)}" if like else ""
    return bad("kafka topic", told[1].reason + there, told[1].remedy)


def _positions(consumer: Consumer, config: KafkaConfig, partitions: int) -> Finding:
    """Whether the group may be used, what waits, and whether its place is still there."""
    places = [TopicPartition(config.topic, number) for number in range(partitions)]
    try:
        committed = consumer.committed(places, timeout=ASK_S)
        ends = {n: _ends(consumer, config.topic, n) for n in range(partitions)}
    except KafkaException as error:
        return _no_position(consumer, error, config)
    known = {place.partition: place.offset for place in committed if place.offset >= 0}
    lost = sum(max(0, ends[n][0] - offset) for n, offset in known.items())
    waiting = sum(high - max(low, known.get(n, low)) for n, (low, high) in ends.items())
    if lost:
        return bad(
            "kafka position",
            f"{lost:,} changes were deleted from {config.topic} before the group "
            f"{config.group} read them",
            "run `gibsey-embedder backfill`, and raise the topic's retention.ms above the "
            "longest downtime",
        )
    begun = f"group {config.group}" if known else f"new group {config.group}"
    return good("kafka position", f"{waiting:,} messages wait for {begun}")


def _ends(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    place = TopicPartition(topic, partition)
    try:
        low, high = consumer.get_watermark_offsets(place, timeout=ASK_S)
    except KafkaException:
        time.sleep(ELECTION_S)
        low, high = consumer.get_watermark_offsets(place, timeout=ASK_S)
    return low, high


def _no_position(consumer: Consumer, error: KafkaException, config: KafkaConfig) -> Finding:
    told = error_messages.of_code(code_of(error), config)
    # A coordinator that may not be asked for is told to who reads; the call only runs out of time.
    said = consumer.poll(TOLD_S) if told is None else None
    if said is not None and (aside := said.error()) is not None:
        told = error_messages.of_code(aside.code(), config)
    if told is not None:
        return bad("kafka position", told[1].reason, told[1].remedy)
    found = f"the group's position cannot be read: {error_messages.plain(text_of(error))}"
    return bad(
        "kafka position",
        found,
        "see that all brokers are up; advertised.listeners must name addresses that are known here",
    )


def _dead_letters(topic: str, topics: Mapping[str, Any]) -> Finding:
    if topic in topics:
        return good("kafka dead letters", f"{topic} is there")
    return warning(
        "kafka dead letters",
        f"there is no topic {topic}; it is made at the first dead letter, if the login may",
        "create it, with a max.message.bytes as large as that of the source",
    )
