"""Opens the stream's clients of librdkafka; all report their errors to one monitor."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from connectors.kafka.config import KafkaConfig, Property
from connectors.kafka.error_monitor import KafkaErrorMonitor
from connectors.runtime.tuning.timer_slack import exact_threads


def open_consumer(config: KafkaConfig, errors: KafkaErrorMonitor) -> Consumer:
    """Open a consumer.

    Raises:
        KafkaException: librdkafka refuses the configuration.
    """
    with exact_threads():
        return Consumer({**config.consumer_config(), **errors.callbacks()})


def open_producer(
    config: KafkaConfig, errors: KafkaErrorMonitor, more: Mapping[str, Property]
) -> Producer:
    """Open a producer, with more properties of librdkafka.

    Raises:
        KafkaException: librdkafka refuses the configuration.
    """
    return Producer({**config.producer_config(), **errors.callbacks(), **more})


def open_admin(config: KafkaConfig, errors: KafkaErrorMonitor) -> AdminClient:
    """Open an admin client.

    Raises:
        KafkaException: librdkafka refuses the configuration.
    """
    return AdminClient({**config.admin_config(), **errors.callbacks()})
