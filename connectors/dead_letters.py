"""Dead letters: the originals of what the stream gave up, each confirmed by the broker."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors import logs
from connectors.kafka import KafkaAccess
from connectors.kafka_faults import KafkaFaults
from connectors.kafka_topics import make_topic
from connectors.metrics import Metrics
from connectors.records import DeadLetter
from connectors.shutdown import Shutdown
from connectors.stalls import Stalls

SERVICE = "dead-letters"
SAY_AFTER_S = 5.0
RETRY_S = 1.0
MAX_DETAIL_CHARS = 500
TIMESTAMP_HEADER = "gibsey-timestamp"


class DeadLetters:
    """The producer of the dead-letter topic, idempotent, opened at the first letter.

    Delivery: every letter is confirmed by all in-sync replicas before `deliver` returns; until
    then it is tried again, so that a broker that is away stalls the stream and loses nothing.
    Bytewax's own Kafka sink has no delivery callback and loses messages in silence.

    Args:
        access: How Kafka is reached.
        topic: The dead-letter topic.
        faults: Hears of the producer's errors.
        stalls: Where waiting is reported.
        metrics: Where confirmed letters are counted.
        shutdown: Ends the polling thread.
    """

    def __init__(
        self,
        access: KafkaAccess,
        topic: str,
        *,
        faults: KafkaFaults,
        stalls: Stalls,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> None:
        self._access = access
        self._topic = topic
        self._faults = faults
        self._stalls = stalls
        self._metrics = metrics
        self._shutdown = shutdown
        self._producer: Producer | None = None
        self._log = logs.get("stream")

    async def deliver(self, letter: DeadLetter) -> None:
        """Send a letter; returns when the broker has confirmed it. On the I/O loop only."""
        failed_at = dt.datetime.now(dt.timezone.utc)
        with_value = True
        while (error := await self._try(letter, failed_at, with_value)) is not None:
            if error.code() in _TOO_LARGE and with_value:
                with_value = False
                continue
            await self._wait_for_better(error)
        self._stalls.cleared(SERVICE)
        self._metrics.dead_letters.labels(letter.reason).inc()
        self._log.error(
            "dead letter", origin=letter.record.origin, reason=letter.reason, detail=letter.detail
        )

    async def _try(
        self, letter: DeadLetter, failed_at: dt.datetime, with_value: bool
    ) -> KafkaError | None:
        """Produce once and wait for the report; returns the error, None if all is well."""
        loop = asyncio.get_running_loop()
        report: asyncio.Future[KafkaError | None] = loop.create_future()

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            loop.call_soon_threadsafe(report.set_result, error)

        record = letter.record
        headers = _headers(letter, failed_at, None if with_value else len(record.value or b""))
        try:
            self._open().produce(
                self._topic,
                key=record.key,
                value=record.value if with_value else None,
                headers=headers,
                on_delivery=on_delivery,
            )
        except BufferError:
            return KafkaError(KafkaError._QUEUE_FULL)
        except KafkaException as error:
            found: KafkaError = error.args[0]
            return found
        return await self._report(report)

    async def _report(self, report: asyncio.Future[KafkaError | None]) -> KafkaError | None:
        while True:
            done, _ = await asyncio.wait((report,), timeout=SAY_AFTER_S)
            if done:
                return report.result()
            self._stalls.waiting(SERVICE, f"{self._topic} does not confirm dead letters")

    async def _wait_for_better(self, error: KafkaError) -> None:
        if error.code() in _NO_TOPIC:
            loop = asyncio.get_running_loop()
            problem = await loop.run_in_executor(None, make_topic, self._access, self._topic)
            if problem:
                self._stalls.waiting(
                    SERVICE,
                    f"the topic {self._topic} does not exist and cannot be made ({problem})",
                    f"make the topic {self._topic}, or set DEAD_LETTER_TOPIC",
                )
        else:
            self._stalls.waiting(SERVICE, f"{self._topic}: {error.str()}")
        await asyncio.sleep(RETRY_S)

    def _open(self) -> Producer:
        if self._producer is None:
            config: dict[str, Any] = {
                **self._access.producer_config(),
                **self._faults.callbacks(),
            }
            self._producer = Producer(config)
            threading.Thread(target=self._poll, name="dead-letters", daemon=True).start()
        return self._producer

    def _poll(self) -> None:
        with self._shutdown.guard("dead letters"):
            while self._producer is not None:
                self._producer.poll(0.5)


_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_NO_TOPIC = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)


def _headers(
    letter: DeadLetter, failed_at: dt.datetime, original_size: int | None
) -> list[tuple[str, str | bytes | None]]:
    record = letter.record
    detail = "".join(c if c.isprintable() else " " for c in letter.detail)[:MAX_DETAIL_CHARS]
    headers: list[tuple[str, str | bytes | None]] = [
        ("reason", letter.reason),
        ("detail", detail.encode(errors="replace")),
        ("origin", record.replay_of or record.origin),
        ("failed-at", failed_at.isoformat(timespec="milliseconds")),
        (TIMESTAMP_HEADER, str(record.timestamp_ms)),
    ]
    if original_size is not None:
        headers.append(("original-size", str(original_size)))
    return headers
