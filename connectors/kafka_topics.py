"""What an admin client is asked: a topic's identity, and to make a topic that is missing."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # not in its __all__
    AdminClient,
    NewTopic,
)

from connectors.kafka import KafkaAccess
from connectors.kafka_faults import KafkaFaults, code_of, text_of

TIMEOUT_S = 5.0
ID_TIMEOUT_S = 2.0
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
        access: How Kafka is reached.
        faults: Hears of the client's errors.
    """

    def __init__(self, access: KafkaAccess, faults: KafkaFaults) -> None:
        self._access = access
        self._faults = faults
        self._client: AdminClient | None = None
        self._tries_left = TRIES

    def ask(self) -> str:
        """The topic's id, or an empty text where it cannot be had; blocks up to 5 s."""
        if not self._tries_left:
            return ""
        try:
            return self._ask()
        except (KafkaException, concurrent.futures.TimeoutError):
            self._tries_left -= 1
            return ""

    def _ask(self) -> str:
        if self._client is None:
            config: dict[str, Any] = {**self._access.admin_config(), **self._faults.callbacks()}
            self._client = AdminClient(config)
        topic = self._access.topic
        asked = self._client.describe_topics(TopicCollection([topic]), request_timeout=ID_TIMEOUT_S)
        found = str(asked[topic].result(TIMEOUT_S).topic_id)
        self._client.poll(0)
        self._tries_left = TRIES
        return "" if found == _NO_ID else found


def make_topic(access: KafkaAccess, topic: str) -> str:
    """Make a topic with as many partitions as the source's; blocks up to 10 s.

    Returns:
        What went wrong, or an empty text.
    """
    try:
        admin = AdminClient({**access.admin_config(), "log_level": 0})
        source = admin.list_topics(access.topic, timeout=TIMEOUT_S).topics.get(access.topic)
        partitions = len(source.partitions) if source and source.partitions else 1
        made = admin.create_topics([NewTopic(topic, partitions)], request_timeout=TIMEOUT_S)
        made[topic].result(TIMEOUT_S)
    except KafkaException as error:
        if code_of(error) != KafkaError.TOPIC_ALREADY_EXISTS:
            return text_of(error)
    return ""
