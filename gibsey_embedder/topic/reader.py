"""Reading a topic once, from given offsets to where it ends now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.config import KafkaConfig
from gibsey_embedder.topic.error_listener import ErrorListener, ask

TIMEOUT_S = 15.0


class KafkaUnavailableError(Exception):
    """Kafka cannot be asked; `str()` is one line with the remedy where one is known."""


class TopicReader:
    """A consumer that reads topics to their ends and then stops.

    Args:
        kafka: How Kafka is reached.
        group: The consumer group whose committed offsets `committed` and `commit` mean.
    """

    def __init__(self, kafka: KafkaConfig, group: str) -> None:
        self._kafka = kafka
        self._hearing = ErrorListener(kafka)
        config = {**kafka.consumer_config(), "group.id": group, "auto.offset.reset": "earliest"}
        try:
            self._consumer = Consumer({**config, **self._hearing.callbacks()})
        except KafkaException as error:
            raise self._unusable(error) from None

    def _unusable(self, error: KafkaException) -> KafkaUnavailableError:
        self._hearing.take(error.args[0].str())
        words = self._hearing.cause()
        if words is None:
            return KafkaUnavailableError(f"Kafka at {self._kafka.brokers}: {error.args[0].str()}")
        return KafkaUnavailableError(
            f"{words.reason}; {words.remedy}" if words.remedy else words.reason
        )

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """First offset and the one behind the last, by partition; empty for no such topic.

        Raises:
            KafkaUnavailableError: No broker answers.
        """
        try:
            topics = ask(
                lambda within_s: self._consumer.list_topics(topic, timeout=within_s).topics,
                self._consumer,
                self._hearing,
            )
            found = topics.get(topic)
            if found is None or found.error is not None:
                return {}
            return {n: self._watermarks(topic, n) for n in found.partitions}
        except KafkaException as error:
            raise self._unusable(error) from None

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=TIMEOUT_S
        )
        return low, high

    def offsets_at(self, topic: str, partitions: list[int], timestamp_ms: int) -> dict[int, int]:
        """The first offset at or behind a time, by partition; those without one are left out."""
        asked = [TopicPartition(topic, n, timestamp_ms) for n in partitions]
        found = self._consumer.offsets_for_times(asked, timeout=TIMEOUT_S) if asked else []
        return {place.partition: place.offset for place in found if place.offset >= 0}

    def committed(self, topic: str, partitions: list[int]) -> dict[int, int]:
        """The group's committed offsets, by partition."""
        asked = [TopicPartition(topic, n) for n in partitions]
        found = self._consumer.committed(asked, timeout=TIMEOUT_S)
        return {place.partition: place.offset for place in found if place.offset >= 0}

    def commit(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit offsets to the group."""
        places = [TopicPartition(topic, n, offset) for n, offset in offsets.items()]
        if places:
            self._consumer.commit(offsets=places, asynchronous=False)

    def read(
        self, topic: str, starts: Mapping[int, int], ends: Mapping[int, tuple[int, int]]
    ) -> Iterator[Message]:
        """Every message from `starts` to `ends`, partitions interleaved.

        Raises:
            KafkaUnavailableError: The broker is silent for longer than `TIMEOUT_S`.
        """
        starts = {n: max(start, ends[n][0]) for n, start in starts.items() if n in ends}
        left = {n for n, start in starts.items() if start < ends[n][1]}
        self._consumer.assign([TopicPartition(topic, n, starts[n]) for n in left])
        while left:
            message = self._consumer.poll(TIMEOUT_S)
            if message is None:
                raise KafkaUnavailableError(
                    f"{topic} cannot be read: nothing came for {TIMEOUT_S:.0f} s"
                )
            partition, offset = message.partition(), message.offset()
            if partition is None or offset is None:
                continue
            if (error := message.error()) is not None:
                # the last records before an end may be such as nobody sees: transaction markers
                if error.code() == KafkaError._PARTITION_EOF:
                    left.discard(partition)
                continue
            if partition in left and offset < ends[partition][1]:
                yield message
            if offset >= ends[partition][1] - 1:
                left.discard(partition)
        self._consumer.unassign()

    def close(self) -> None:
        """Let the connections go."""
        self._consumer.close()
