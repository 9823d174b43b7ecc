"""Kafka's settings of both topics: how long, how large, and what compaction would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError  # noqa: A004 - Python 3.10's is not the built-in one
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ConfigResource,
    ResourceType,
)

from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_messages import plain
from connectors.kafka.error_monitor import text_of
from gibsey_embedder.doctor.findings import Finding, good, warning

CONFIG_S = 3.0
"""How long the brokers may take to tell a topic's settings."""
SHORT_MS = 24 * 3600 * 1000
"""A shorter retention does not outlast a weekday's outage."""

Limits = Mapping[str, str]


class _Silent:
    """A log that nobody reads; the cause of a failure is known by now."""

    def log(self, *_: object) -> None:
        """Take a line."""


def check_limits(kafka: KafkaConfig, topics: Sequence[str]) -> list[Finding]:
    """Judge retention and sizes of the topics that are there; blocks for up to 3.5 s.

    Args:
        kafka: How Kafka is reached; its topic is the source, any other one the dead letters'.
        topics: The topics that exist.
    """
    try:
        limits = read_limits(kafka, topics)
    except (KafkaException, TimeoutError) as error:
        why = plain(text_of(error)) if isinstance(error, KafkaException) else "no answer"
        found = f"retention and size limits cannot be read: {why}"
        remedy = "the stream itself does not need them"
        if "authoriz" in why.lower():
            remedy = f"allow the login DescribeConfigs on the topics; {remedy}"
        return [warning("kafka limits", found, remedy)]
    findings = [judge_retention(name, values) for name, values in limits.items()]
    source = limits.get(kafka.topic)
    for name, values in limits.items():
        if name != kafka.topic:
            findings += judge_letters(name, values, source)
    return findings


def read_limits(kafka: KafkaConfig, topics: Sequence[str]) -> dict[str, Limits]:
    """The settings of topics, by topic.

    Raises:
        KafkaException: The broker does not tell, or the login may not know.
        TimeoutError: It does not answer.
    """
    config: dict[str, Any] = {**kafka.admin_config(), "logger": _Silent()}
    admin = AdminClient(config)
    asked = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
    answers = admin.describe_configs(asked, request_timeout=CONFIG_S)
    return {
        resource.name: {
            name: str(entry.value) for name, entry in found.result(CONFIG_S + 1.0).items()
        }
        for resource, found in answers.items()
    }


def judge_retention(topic: str, limits: Limits) -> Finding:
    """Whether a topic keeps its messages for longer than a downtime lasts."""
    kept_ms = int(limits.get("retention.ms", "-1"))
    if "delete" not in limits.get("cleanup.policy", "delete") or kept_ms < 0:
        size = int(limits.get("retention.bytes", "-1"))
        most = f" up to {size:,} bytes a partition" if size >= 0 else " without end"
        return good("kafka retention", f"{topic} is kept{most}")
    shown = f"{topic} is kept for {_duration(kept_ms)}"
    if kept_ms >= SHORT_MS:
        return good("kafka retention", shown)
    return warning(
        "kafka retention",
        f"{shown}: what a longer downtime leaves unread is lost",
        f"raise retention.ms of {topic} above the longest downtime, such as 604800000 (7 days)",
    )


def judge_letters(topic: str, limits: Limits, source: Limits | None) -> list[Finding]:
    """Whether dead letters fit into their topic, and stay there."""
    findings = []
    if "compact" in limits.get("cleanup.policy", ""):
        found = f"{topic} is compacted: of the dead letters of one page only the last stays"
        findings.append(warning("kafka dead letters", found, "set its cleanup.policy to delete"))
    own = int(limits.get("max.message.bytes", "0"))
    theirs = int((source or {}).get("max.message.bytes", "0"))
    if own < theirs:
        found = f"{topic} takes {own:,} bytes a message, the source {theirs:,}"
        remedy = f"set max.message.bytes of {topic} to {theirs + 65536}; larger originals go bare"
        findings.append(warning("kafka dead letters", found, remedy))
    return findings


def _duration(ms: int) -> str:
    hours = ms / 3_600_000
    return f"{hours / 24:.3g} days" if hours >= 48 else f"{hours:.3g} h"
