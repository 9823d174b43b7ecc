"""Pages sent into the topic as changes that no newer change can lose to.

A change that a command sends holds a text which was read from the table some time ago, so it must
lose to every write that came after, whatever the order in which the two reach the stream. Flat
events of one partition are taken in the order of their offsets, which would be wrong here. So
these have Debezium's form, an insert, whose `source.ts_us` is the time from which on the command
reads: a write before it is in what is read, and a write after it is newer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import orjson
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.kafka import error_messages
from connectors.kafka.config import KafkaConfig
from dataflow.events.json_parser import MAX_EVENT_BYTES
from gibsey_embedder.terminal.retry_policy import GIVE_UP_AFTER_S, RetryPolicy
from gibsey_embedder.topic.reader import KafkaUnavailableError

POLL_S = 1.0
CONNECTOR = "gibsey-embedder"
"""What `source.connector` says, so that these can be told from Debezium's own."""


@dataclass(frozen=True, slots=True)
class UnsentError:
    """A page that the topic does not take.

    Attributes:
        page_id: The page.
        reason: Why.
    """

    page_id: str
    reason: str


def event_of(page_id: str, body: str, written_us: int) -> tuple[bytes, bytes]:
    """Key and value of an insert, as Debezium's Cassandra connector writes them.

    Args:
        page_id: The page.
        body: Its text.
        written_us: The time that it counts as written at (microseconds since 1970).
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
    """Sends changes, each confirmed by the broker.

    Args:
        kafka: How Kafka is reached, and the topic.
        written_us: The time that all of them count as written at.
        retry_policy: Says what is waited for.
    """

    def __init__(self, kafka: KafkaConfig, written_us: int, retry_policy: RetryPolicy) -> None:
        self._kafka = kafka
        self._written_us = written_us
        self._retry_policy = retry_policy
        self._heard: list[str] = []
        self._unsent: list[UnsentError] = []
        self._failed = ""
        config = {
            **kafka.producer_config(),
            "message.timeout.ms": int(GIVE_UP_AFTER_S * 1000),
            # Java's: a page goes to the partition that Debezium's own events of it are in.
            "partitioner": "murmur2_random",
            "error_cb": lambda error: self._heard.append(error.str()),
            "logger": self,
        }
        try:
            self._producer = Producer(config)
        except KafkaException as error:
            raise KafkaUnavailableError(
                f"Kafka at {kafka.brokers}: {error.args[0].str()}"
            ) from None

    def log(self, *_: object) -> None:
        """Drop a line of librdkafka's log: `flush` says what is waited for."""

    def send(self, page_id: str, body: str) -> None:
        """Send a page; `flush` tells whether it received."""
        key, value = event_of(page_id, body, self._written_us)
        if len(value) > MAX_EVENT_BYTES:
            reason = f"{len(value):,} bytes, the stream takes {MAX_EVENT_BYTES:,}"
            self._unsent.append(UnsentError(page_id, reason))
            return

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if error is None:
                return
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._unsent.append(UnsentError(page_id, "larger than the topic takes"))
            else:
                self._failed = error.str()

        self._producer.produce(self._kafka.topic, key=key, value=value, on_delivery=on_delivery)
        self._producer.poll(0)

    def flush(self) -> list[UnsentError]:
        """Wait until what was sent is confirmed; returns what the topic does not take.

        Raises:
            KafkaUnavailableError: It was not confirmed within the retry_policy of commands.
        """
        while self._producer.flush(POLL_S):
            self._retry_policy.report_waiting(
                self._reason() or f"Kafka at {self._kafka.brokers} confirms nothing"
            )
        if self._failed:
            raise KafkaUnavailableError(self._reason() or f"not confirmed by Kafka: {self._failed}")
        unsent, self._unsent = self._unsent, []
        self._heard.clear()
        return unsent

    def _reason(self) -> str:
        told = (error_messages.explain(text, self._kafka) for text in reversed(self._heard))
        words = next((found for found in told if found is not None), None)
        if words is None:
            return ""
        return f"{words.reason}; {words.remedy}" if words.remedy else words.reason
