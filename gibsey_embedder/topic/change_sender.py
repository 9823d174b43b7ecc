"""Sends pages to the topic as changes that every later write replaces.

A command reads a page's text before it sends the change. A later write must win, in whatever order
the two events reach the stream. The version of a flat event is its offset, which would be wrong
here. Therefore the command sends Debezium inserts. Their `source.ts_us` is the time at which the
command begins to read: it reads all earlier writes, and all later writes are newer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.kafka import error_messages
from connectors.kafka.config import KafkaConfig
from dataflow.events.json_parser import MAX_EVENT_BYTES
from gibsey_embedder.terminal.retry_policy import RetryPolicy
from gibsey_embedder.topic.reader import KafkaUnavailableError

POLL_S = 1.0
CONNECTOR = "gibsey-embedder"
"""The value of `source.connector`, which distinguishes these events from Debezium's own."""


@dataclass(frozen=True, slots=True)
class UnsentPage:
    """A page that the topic does not accept.

    Attributes:
        page_id: The page id.
        reason: The reason.
    """

    page_id: str
    reason: str


def event_of(page_id: str, body: str, written_us: int) -> tuple[bytes, bytes]:
    """Return key and value of an insert in the format of Debezium's Cassandra connector.

    Args:
        page_id: The page id.
        body: The text.
        written_us: The write time of the change (microseconds since 1970).
    """
    cells = {
        name: {"value": value, "deletion_ts": None, "set": True}
        for name, value in (("page_id", page_id), ("body", body))
    }
    event = {
        "ts_ms": time.time_ns() // 1_000_000,
        "op": "i",
        "source": {
            "connector": CONNECTOR,
            "snapshot": "true",
            "ts_ms": written_us // 1000,
            "ts_us": written_us,
        },
        "after": cells,
    }
    return orjson.dumps({"page_id": page_id}), orjson.dumps(event)


class ChangeSender:
    """Sends changes and waits until the broker confirms them.

    Args:
        kafka: The access to Kafka, and the topic.
        written_us: The write time of all changes (microseconds since 1970).
        retry_policy: Prints what the command waits for; its limit is the timeout of a change.
    """

    def __init__(self, kafka: KafkaConfig, written_us: int, retry_policy: RetryPolicy) -> None:
        self._kafka = kafka
        self._written_us = written_us
        self._retry_policy = retry_policy
        self._client_errors: list[str] = []
        self._unsent: list[UnsentPage] = []
        self._delivery_error = ""
        config = {
            **kafka.producer_config(),
            "message.timeout.ms": int(retry_policy.limit_s * 1000),
            # Java's partitioner sends a page to the partition of Debezium's own events.
            "partitioner": "murmur2_random",
            "error_cb": lambda error: self._client_errors.append(error.str()),
            "logger": self,
        }
        try:
            self._producer = Producer(config)
        except KafkaException as error:
            raise KafkaUnavailableError(
                f"Kafka at {kafka.brokers}: {error.args[0].str()}"
            ) from None

    def log(self, *_: object) -> None:
        """Drop a line of librdkafka's log, because `flush` reports the reason for waiting."""

    def send(self, page_id: str, body: str) -> None:
        """Send a page; `flush` reports whether the broker confirmed it."""
        key, value = event_of(page_id, body, self._written_us)
        if len(value) > MAX_EVENT_BYTES:
            reason = f"it has {len(value):,} bytes, but the stream accepts {MAX_EVENT_BYTES:,}"
            self._unsent.append(UnsentPage(page_id, reason))
            return

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is None:
                return
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._unsent.append(UnsentPage(page_id, "it is larger than the topic accepts"))
            else:
                self._delivery_error = error.str()

        self._producer.produce(self._kafka.topic, key=key, value=value, on_delivery=on_delivery)
        self._producer.poll(0)

    def flush(self) -> list[UnsentPage]:
        """Wait until the broker confirmed all changes; return the pages that it rejected.

        Raises:
            KafkaUnavailableError: The broker did not confirm them in time.
        """
        while self._producer.flush(POLL_S):
            self._retry_policy.report_waiting(
                self._reason() or f"Kafka at {self._kafka.brokers} has not confirmed the changes"
            )
        if self._delivery_error:
            raise KafkaUnavailableError(
                self._reason()
                or f"Kafka at {self._kafka.brokers} did not confirm a change: "
                f"{self._delivery_error}"
            )
        unsent, self._unsent = self._unsent, []
        self._client_errors.clear()
        return unsent

    def _reason(self) -> str:
        for text in reversed(self._client_errors):
            message = error_messages.explain(text, self._kafka)
            if message is not None:
                return f"{message.reason}; {message.remedy}" if message.remedy else message.reason
        return ""
