"""What an admin client is asked: a topic's identity, and to make a topic that is missing."""

from __future__ import annotations

import concurrent.futures
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    NewTopic,
)

from connectors.kafka.clients import open_admin
from connectors.kafka.config import KafkaConfig
from connectors.kafka.error_monitor import KafkaErrorMonitor, code_of, text_of

TIMEOUT_S = 5.0
ID_TIMEOUT_S = 1.0
TRIES = 2
"""A broker that has not told an id so often in a row cannot (the mock cluster, or a very old one),
and is not asked again."""
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"
"""The id of topics made before Kafka 2.8, all zeros."""


class TopicIds:
    """Asks for the topic's id, by which one made anew is told from its predecessor.

    Offsets alone do not tell: where the new topic has grown past the old position, reading would
    go on in the middle of it, without a word.

    Args:
        config: How Kafka is reached.
        errors: Hears of the client's errors.
    """

    def __init__(self, config: KafkaConfig, errors: KafkaErrorMonitor) -> None:
        self._config = config
        self._errors = errors
        self._client: AdminClient | None = None
        self._asked: concurrent.futures.Future[Any] | None = None
        self._asked_at = 0.0
        self._tries_left = TRIES

    @property
    def is_asked(self) -> bool:
        """Whether a question is under way."""
        return self._asked is not None

    @property
    def are_hopeless(self) -> bool:
        """Whether the broker has no ids."""
        return self._tries_left <= 0

    def ask(self) -> None:
        """Send the question; `answer` has what came back."""
        try:
            if self._client is None:
                self._client = open_admin(self._config, self._errors)
            topics = TopicCollection([self._config.topic])
            asked = self._client.describe_topics(topics, request_timeout=ID_TIMEOUT_S)
        except KafkaException:
            self._tries_left -= 1
            return
        self._asked_at = time.monotonic()
        self._asked = asked[self._config.topic]

    def answer(self) -> tuple[str, float] | None:
        """The topic's id (empty: it has none) and when it was asked for, once after each `ask`."""
        if self._client is not None:
            self._client.poll(0)  # serves the callbacks
        if self._asked is None or not self._asked.done():
            return None
        asked, self._asked = self._asked, None
        if asked.exception() is not None:
            self._tries_left -= 1
            return None
        self._tries_left = TRIES
        found = str(asked.result().topic_id)
        return "" if found == _NO_ID else found, self._asked_at


def make_topic(config: KafkaConfig, topic: str) -> str:
    """Make a topic with as many partitions as the source's; blocks up to 10 s.

    Returns:
        What went wrong, or an empty text.
    """
    try:
        admin = AdminClient({**config.admin_config(), "log_level": 0})
        source = admin.list_topics(config.topic, timeout=TIMEOUT_S).topics.get(config.topic)
        partitions = len(source.partitions) if source and source.partitions else 1
        made = admin.create_topics([NewTopic(topic, partitions)], request_timeout=TIMEOUT_S)
        made[topic].result(TIMEOUT_S)
    except KafkaException as error:
        if code_of(error) != KafkaError.TOPIC_ALREADY_EXISTS:
            return text_of(error)
    return ""
