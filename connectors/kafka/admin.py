"""Administrative requests: the topic's id, and the creation of a missing topic."""

from __future__ import annotations

import concurrent.futures
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka.clients import open_admin
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_monitor import KafkaErrorMonitor, code_of, text_of

TIMEOUT_S = 5.0
ID_TIMEOUT_S = 1.0
ATTEMPTS = 2
"""Failed requests in a row after which the broker counts as one without topic ids (the mock
cluster, or a very old broker)."""
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id of topics created before Kafka 2.8: all zeros."""


class TopicIdClient:
    """Requests the topic's id, which distinguishes a recreated topic from its predecessor.

    Offsets alone do not show it: if the new topic has grown past the old position, reading would
    silently continue in the middle of it.

    Args:
        config: How to connect to Kafka.
        errors: Where the client's errors are reported.
    """

    def __init__(self, config: KafkaConfig, errors: KafkaErrorMonitor) -> None:
        self._config = config
        self._errors = errors
        self._client: AdminClient | None = None
        self._request: concurrent.futures.Future[Any] | None = None
        self._requested_at = 0.0
        self._attempts_left = ATTEMPTS

    @property
    def is_requested(self) -> bool:
        """Whether a request is in flight."""
        return self._request is not None

    @property
    def is_unsupported(self) -> bool:
        """Whether the broker has no topic ids."""
        return self._attempts_left <= 0

    def request(self) -> None:
        """Send the request; `response` returns the result."""
        try:
            if self._client is None:
                self._client = open_admin(self._config, self._errors)
            topics = TopicCollection([self._config.topic])
            requests = self._client.describe_topics(topics, request_timeout=ID_TIMEOUT_S)
        except KafkaException:
            self._attempts_left -= 1
            return
        self._requested_at = time.monotonic()
        self._request = requests[self._config.topic]

    def response(self) -> tuple[str, float] | None:
        """Return the topic's id (empty: it has none) and the time of its request.

        Returns:
            The response once, after each request; None while there is none, or if it failed.
        """
        if self._client is not None:
            self._client.poll(0)  # runs the callbacks
        if self._request is None or not self._request.done():
            return None
        request, self._request = self._request, None
        if request.exception() is not None:
            self._attempts_left -= 1
            return None
        self._attempts_left = ATTEMPTS
        topic_id = str(request.result().topic_id)
        return "" if topic_id == _NO_ID else topic_id, self._requested_at


def create_topic(config: KafkaConfig, topic: str) -> str:
    """Create a topic with as many partitions as the source topic; blocks up to 10 s.

    Returns:
        The error, or an empty text.
    """
    try:
        admin = AdminClient({**config.admin_config(), "log_level": 0})
        source = admin.list_topics(config.topic, timeout=TIMEOUT_S).topics.get(config.topic)
        partitions = len(source.partitions) if source and source.partitions else 1
        requests = admin.create_topics([NewTopic(topic, partitions)], request_timeout=TIMEOUT_S)
        requests[topic].result(TIMEOUT_S)
    except KafkaException as error:
        if code_of(error) != KafkaError.TOPIC_ALREADY_EXISTS:
            return text_of(error)
    return ""
