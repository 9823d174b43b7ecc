"""Checks Kafka: connection, login, topic, positions, timestamps, dead-letter topic, retention."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.core.findings import Finding, bad, good, warning
from connectors.kafka import error_messages
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_monitor import code_of, text_of
from gibsey_embedder.doctor.kafka_clock import check_timestamps
from gibsey_embedder.doctor.kafka_limits import ReadLimits, check_limits, read_limits
from gibsey_embedder.topic.error_listener import TIMEOUTS_S, ErrorListener

TIMEOUT_S = 2.0
KNOWN_ERROR_TIMEOUT_S = 0.3
"""Timeout for reading an error that the client already has."""
ELECTION_S = 0.5
"""Pause before a second request to a partition without a leader."""
_MAX_SIMILAR_TOPICS = 5


def check_kafka(
    config: KafkaConfig,
    dead_letter_topic: str,
    workers: int,
    *,
    timeouts_s: tuple[float, ...] = TIMEOUTS_S,
    read_limits: ReadLimits = read_limits,
) -> list[Finding]:
    """Check Kafka; blocks for up to 17 s.

    Args:
        config: The access to Kafka.
        dead_letter_topic: `DEAD_LETTER_TOPIC`.
        workers: Number of worker threads in all processes.
        timeouts_s: Timeouts of the attempts to reach a broker.
        read_limits: Reads the settings of topics from the broker.
    """
    errors = ErrorListener(config, timeouts_s)
    try:
        consumer = Consumer({**config.consumer_config(), **errors.callbacks()})
    except KafkaException as error:
        errors.add(text_of(error))
        return [_unreachable(config, errors, text_of(error))]
    try:
        topics = _topics(consumer, errors)
        if isinstance(topics, str):
            return [_unreachable(config, errors, topics)]
        used = [n for n, on in (("TLS", config.uses_tls), ("login", config.uses_login)) if on]
        features = f" with {' and '.join(used)}" if used else ""
        connected = good("kafka", f"{config.brokers} responds{features}")
        present = [topic for topic in (config.topic, dead_letter_topic) if topic in topics]
        return [
            connected,
            *_check_topics(consumer, config, dead_letter_topic, workers, topics),
            *(check_limits(config, present, read_limits) if present else []),
        ]
    finally:
        consumer.close()


def _topics(consumer: Consumer, errors: ErrorListener) -> dict[str, int] | str:
    """Return the number of partitions of each usable topic, or the error text."""
    try:
        metadata = errors.request(
            lambda timeout_s: consumer.list_topics(timeout=timeout_s), consumer
        )
    except KafkaException as error:
        return text_of(error)
    usable = {name: topic for name, topic in metadata.topics.items() if topic.error is None}
    return {name: len(topic.partitions) for name, topic in usable.items()}


def _unreachable(config: KafkaConfig, errors: ErrorListener, text: str) -> Finding:
    cause = errors.cause()
    if cause is None:
        found = f"no broker of {config.brokers} can be used: {error_messages.plain(text)}"
        return bad("kafka", found, "start Kafka, or correct KAFKA_BROKER and KAFKA_OPTIONS")
    return bad("kafka", cause.reason, cause.remedy or "start Kafka, or correct KAFKA_BROKER")


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
        findings.append(check_timestamps(consumer, config.topic, topics[config.topic], TIMEOUT_S))
    else:
        findings.append(_missing(consumer, config, topics))
    findings.append(_dead_letters(dead_letter_topic, topics))
    return findings


def _partitions(topic: str, partitions: int, workers: int) -> Finding:
    plural = "" if partitions == 1 else "s"
    found = f"{topic} has {partitions} partition{plural}"
    if workers > partitions:
        return warning(
            "kafka topic",
            f"{found} for {workers} workers, so {workers - partitions} of them read nothing",
            f"start {partitions} in total (WORKERS, processes), or add partitions to the topic",
        )
    return good("kafka topic", f"{found} for {workers} worker{'' if workers == 1 else 's'}")


def _missing(consumer: Consumer, config: KafkaConfig, topics: Mapping[str, int]) -> Finding:
    """Return the finding for a topic that does not exist, or that the login may not see."""
    code = KafkaError.UNKNOWN_TOPIC_OR_PART
    try:
        metadata = consumer.list_topics(config.topic, timeout=TIMEOUT_S).topics.get(config.topic)
        code = metadata.error.code() if metadata and metadata.error else code
    except KafkaException as error:
        code = code_of(error)
    message = error_messages.of_code(code, config)
    if message is None:
        found = f"{config.topic}: {KafkaError(code).str()}"
        return bad("kafka topic", found, "ask the operator of Kafka")
    similar = sorted(name for name in topics if name.endswith((".pages", "-pages")))
    names = ", ".join(similar[:_MAX_SIMILAR_TOPICS])
    hint = f"; there is {names}" if names else ""
    return bad("kafka topic", message[1].reason + hint, message[1].remedy)


def _positions(consumer: Consumer, config: KafkaConfig, partitions: int) -> Finding:
    """Check the access to the group, its lag, and whether its position still exists."""
    entries = [TopicPartition(config.topic, number) for number in range(partitions)]
    try:
        committed = consumer.committed(entries, timeout=TIMEOUT_S)
        ends = {n: _ends(consumer, config.topic, n) for n in range(partitions)}
    except KafkaException as error:
        return _position_error(consumer, error, config)
    known = {entry.partition: entry.offset for entry in committed if entry.offset >= 0}
    lost = sum(max(0, ends[n][0] - offset) for n, offset in known.items())
    lag = sum(high - max(low, known.get(n, low)) for n, (low, high) in ends.items())
    if lost:
        return bad(
            "kafka position",
            f"{lost:,} changes were deleted from {config.topic} before the group "
            f"{config.group} read them",
            "run `gibsey-embedder backfill`, and raise the topic's retention.ms above the "
            "longest downtime",
        )
    group = f"group {config.group}" if known else f"new group {config.group}"
    return good("kafka position", f"the lag of the {group} is {lag:,} messages")


def _ends(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    entry = TopicPartition(topic, partition)
    try:
        low, high = consumer.get_watermark_offsets(entry, timeout=TIMEOUT_S)
    except KafkaException:
        time.sleep(ELECTION_S)
        low, high = consumer.get_watermark_offsets(entry, timeout=TIMEOUT_S)
    return low, high


def _position_error(consumer: Consumer, error: KafkaException, config: KafkaConfig) -> Finding:
    message = error_messages.of_code(code_of(error), config)
    # If the login may not use the coordinator, the call times out and only `poll` has the reason.
    event = consumer.poll(KNOWN_ERROR_TIMEOUT_S) if message is None else None
    if event is not None and (event_error := event.error()) is not None:
        message = error_messages.of_code(event_error.code(), config)
    if message is not None:
        return bad("kafka position", message[1].reason, message[1].remedy)
    found = f"the group's position cannot be read: {error_messages.plain(text_of(error))}"
    return bad(
        "kafka position",
        found,
        "check that all brokers are up, and that advertised.listeners has addresses that are "
        "known here",
    )


def _dead_letters(topic: str, topics: Mapping[str, Any]) -> Finding:
    if topic in topics:
        return good("kafka dead letters", f"{topic} exists")
    return warning(
        "kafka dead letters",
        f"there is no topic {topic}; the first dead letter creates it, if the login may",
        "create it with the source topic's max.message.bytes",
    )
