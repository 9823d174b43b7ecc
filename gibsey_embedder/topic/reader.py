"""Reads a topic once, from given offsets to its current end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from connectors.kafka.config import KafkaConfig
from gibsey_embedder.topic.error_listener import ErrorListener

TIMEOUT_S = 15.0


class KafkaUnavailableError(Exception):
    """Kafka does not respond; `str()` is one line, with a remedy if one is known."""


class TopicReader:
    """A consumer that reads topics to their current ends and then stops.

    Args:
        kafka: The access to Kafka.
        group: The consumer group whose offsets `committed` returns.
    """

    def __init__(self, kafka: KafkaConfig, group: str) -> None:
        self._kafka = kafka
        self._errors = ErrorListener(kafka)
        config = {**kafka.consumer_config(), "group.id": group, "auto.offset.reset": "earliest"}
        try:
            self._consumer = Consumer({**config, **self._errors.callbacks()})
        except KafkaException as error:
            raise self._unavailable(error) from None

    def _unavailable(self, error: KafkaException) -> KafkaUnavailableError:
        self._errors.add(error.args[0].str())
        cause = self._errors.cause()
        if cause is None:
            return KafkaUnavailableError(f"Kafka at {self._kafka.brokers}: {error.args[0].str()}")
        return KafkaUnavailableError(
            f"{cause.reason}; {cause.remedy}" if cause.remedy else cause.reason
        )

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return first offset and end offset by partition; empty if the topic does not exist.

        Raises:
            KafkaUnavailableError: No broker responds.
        """
        try:
            topics = self._errors.request(
                lambda timeout_s: self._consumer.list_topics(topic, timeout=timeout_s).topics,
                self._consumer,
            )
            metadata = topics.get(topic)
            if metadata is None or metadata.error is not None:
                return {}
            return {n: self._watermarks(topic, n) for n in metadata.partitions}
        except KafkaException as error:
            raise self._unavailable(error) from None

    def _watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        low, high = self._consumer.get_watermark_offsets(
            TopicPartition(topic, partition), timeout=TIMEOUT_S
        )
        return low, high

    def offsets_at(self, topic: str, partitions: list[int], timestamp_ms: int) -> dict[int, int]:
        """Return the first offset at or after a time by partition, where there is one."""
        times = [TopicPartition(topic, n, timestamp_ms) for n in partitions]
        offsets = self._consumer.offsets_for_times(times, timeout=TIMEOUT_S) if times else []
        return {entry.partition: entry.offset for entry in offsets if entry.offset >= 0}

    def committed(self, topic: str, partitions: list[int]) -> dict[int, int]:
        """Return the group's committed offsets by partition, where there is one."""
        entries = [TopicPartition(topic, n) for n in partitions]
        committed = self._consumer.committed(entries, timeout=TIMEOUT_S)
        return {entry.partition: entry.offset for entry in committed if entry.offset >= 0}

    def read(
        self, topic: str, starts: Mapping[int, int], ends: Mapping[int, tuple[int, int]]
    ) -> Iterator[Message]:
        """Return all messages from `starts` to `ends`, with interleaved partitions.

        Raises:
            KafkaUnavailableError: The broker sends nothing for `TIMEOUT_S`.
        """
        starts = {n: max(start, ends[n][0]) for n, start in starts.items() if n in ends}
        left = {n for n, start in starts.items() if start < ends[n][1]}
        self._consumer.assign([TopicPartition(topic, n, starts[n]) for n in left])
        while left:
            message = self._consumer.poll(TIMEOUT_S)
            if message is None:
                raise KafkaUnavailableError(
                    f"{topic} cannot be read: Kafka sent nothing for {TIMEOUT_S:.0f} s; check the "
                    "brokers"
                )
            partition, offset = message.partition(), message.offset()
            if partition is None or offset is None:
                continue
            if (error := message.error()) is not None:
                # the last records may be transaction markers, which a consumer does not return
                if error.code() == KafkaError._PARTITION_EOF:
                    left.discard(partition)
                continue
            if partition in left and offset < ends[partition][1]:
                yield message
            if offset >= ends[partition][1] - 1:
                left.discard(partition)
        self._consumer.unassign()

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()
