"""Checks the settings of both topics: retention, message size and compaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError  # noqa: A004 - Python 3.10's is not the built-in one
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    ResourceType,
)

from connectors.core.findings import Finding, good, warning
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_messages import plain
from connectors.kafka.error_monitor import text_of

READ_TIMEOUT_S = 3.0
SHORT_MS = 24 * 3600 * 1000
"""A shorter retention gets a warning, because it does not outlast an outage of a day."""

Limits = Mapping[str, str]
ReadLimits = Callable[[KafkaConfig, Sequence[str]], Mapping[str, Limits]]


class _NoLog:
    """A log without output, because the finding has the cause of a failure."""

    def log(self, *_: object) -> None:
        """Drop a line."""


def check_limits(
    kafka: KafkaConfig, topics: Sequence[str], read_limits: ReadLimits
) -> list[Finding]:
    """Check the retention and the message size of existing topics; blocks for up to 3.5 s.

    Args:
        kafka: The access to Kafka; its topic is the source topic.
        topics: The topics that exist.
        read_limits: Reads the settings of topics.
    """
    try:
        limits = read_limits(kafka, topics)
    except (KafkaException, TimeoutError) as error:
        reason = plain(text_of(error)) if isinstance(error, KafkaException) else "no response"
        found = f"the limits of the topics cannot be read: {reason}"
        remedy = "the stream itself does not need them"
        if "authoriz" in reason.lower():
            remedy = f"allow the login DescribeConfigs on the topics; {remedy}"
        return [warning("kafka limits", found, remedy)]
    findings = [_check_retention(name, values) for name, values in limits.items()]
    source = limits.get(kafka.topic)
    for name, values in limits.items():
        if name != kafka.topic:
            findings += _check_dead_letter_topic(name, values, source)
    return findings


def read_limits(
    kafka: KafkaConfig, topics: Sequence[str], timeout_s: float = READ_TIMEOUT_S
) -> dict[str, Limits]:
    """Return the settings of topics, by topic.

    Raises:
        KafkaException: The broker fails, or the login may not read the settings.
        TimeoutError: The broker does not respond.
    """
    config: dict[str, Any] = {**kafka.admin_config(), "logger": _NoLog()}
    admin = AdminClient(config)
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    futures = admin.describe_configs(resources, request_timeout=timeout_s)
    return {
        resource.name: {
            name: str(entry.value) for name, entry in future.result(timeout_s + 1.0).items()
        }
        for resource, future in futures.items()
    }


def _check_retention(topic: str, limits: Limits) -> Finding:
    """Check whether a topic's retention is longer than a usual downtime."""
    retention_ms = int(limits.get("retention.ms", "-1"))
    if "delete" not in limits.get("cleanup.policy", "delete") or retention_ms < 0:
        size = int(limits.get("retention.bytes", "-1"))
        limit = f"up to {size:,} bytes per partition" if size >= 0 else "all messages"
        return good("kafka retention", f"{topic} keeps {limit}")
    found = f"{topic} keeps messages for {_duration(retention_ms)}"
    if retention_ms >= SHORT_MS:
        return good("kafka retention", found)
    return warning(
        "kafka retention",
        f"{found}, so a longer downtime loses unread messages",
        f"raise retention.ms of {topic} above the longest downtime, such as 604800000 (7 days)",
    )


def _check_dead_letter_topic(topic: str, limits: Limits, source: Limits | None) -> list[Finding]:
    """Check that dead letters fit into their topic and are not compacted."""
    findings = []
    if "compact" in limits.get("cleanup.policy", ""):
        found = f"{topic} is compacted, so only the last dead letter of a page remains"
        findings.append(warning("kafka dead letters", found, "set its cleanup.policy to delete"))
    own = int(limits.get("max.message.bytes", "0"))
    theirs = int((source or {}).get("max.message.bytes", "0"))
    if own < theirs:
        found = (
            f"{topic} accepts messages of {own:,} bytes, but the source topic of {theirs:,}: the "
            "dead letter of a larger event has no value"
        )
        remedy = f"set max.message.bytes of {topic} to {theirs + 65536}"
        findings.append(warning("kafka dead letters", found, remedy))
    return findings


def _duration(ms: int) -> str:
    hours = ms / 3_600_000
    return f"{hours / 24:.3g} days" if hours >= 48 else f"{hours:.3g} h"
