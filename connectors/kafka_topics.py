"""Making the dead-letter topic where it is missing."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.kafka import KafkaAccess

TIMEOUT_S = 10.0


def make_topic(access: KafkaAccess, topic: str) -> str:
    """Make a topic with as many partitions as the source's; blocks up to 20 s.

    Returns:
        What went wrong, or an empty text.
    """
    try:
        admin = AdminClient(access.admin_config())
        source = admin.list_topics(access.topic, timeout=TIMEOUT_S).topics.get(access.topic)
        partitions = len(source.partitions) if source and source.partitions else 1
        made = admin.create_topics([NewTopic(topic, partitions)], request_timeout=TIMEOUT_S)
        made[topic].result(TIMEOUT_S)
    except KafkaException as error:
        cause: KafkaError = error.args[0]
        return "" if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS else cause.str()
    return ""
