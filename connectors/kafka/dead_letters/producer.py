"""Sends dead letters; the broker confirms each of them."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.core.records import DeadLetter
from connectors.kafka.admin import create_topic
from connectors.kafka.clients import open_producer
from connectors.kafka.config import KafkaConfig, Property
from connectors.kafka.dead_letters.log import PERIOD_S, DeadLetterLog
from connectors.kafka.dead_letters.message import Payload, headers_of
from connectors.kafka.dead_letters.service import SERVICE
from connectors.kafka.error_messages import MISSING, plain
from connectors.kafka.error_monitor import KafkaErrorMonitor
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.runtime.shutdown import Shutdown

CONFIRM_TIMEOUT_S = 2.0
"""Seconds without a confirmation after which a dead letter counts as a stall."""

RETRY_S = 1.0
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class DeadLetterProducer:
    """The idempotent producer of the dead-letter topic; it opens with the first dead letter.

    Delivery: all in-sync replicas confirm a dead letter before `deliver` returns. Until then it is
    retried, so a broker that is down stalls the stream and loses nothing. (Bytewax's own Kafka
    sink has no delivery callback and loses messages silently.)

    Args:
        config: How to connect to Kafka.
        topic: The dead-letter topic; created if it is missing and the login may create it.
        errors: Where the producer's errors are reported.
        stalls: Where waiting is reported.
        metrics: Where confirmed dead letters are counted.
        shutdown: Ends the process if the polling thread fails.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topic: str,
        *,
        errors: KafkaErrorMonitor,
        stalls: Stalls,
        metrics: Metrics,
        shutdown: Shutdown,
    ) -> None:
        self._config = config
        self._topic = topic
        self._errors = errors
        self._stalls = stalls
        self._metrics = metrics
        self._shutdown = shutdown
        self._producers: dict[bool, Producer] = {}  # by whether each message is a batch of its own
        self._creation: asyncio.Future[str] | None = None
        self._closed = False
        self._dead_letter_log = DeadLetterLog()

    async def deliver(self, dead_letter: DeadLetter) -> None:
        """Send a dead letter; returns when the broker has confirmed it. Event loop only."""
        failed_at = dt.datetime.now(dt.timezone.utc)
        payload = Payload.WHOLE
        while (error := await self._try(dead_letter, failed_at, payload)) is not None:
            if error.code() in _TOO_LARGE and payload is not Payload.BARE:
                payload = payload.smaller()
            else:
                await self._wait(error)
        self._stalls.cleared(SERVICE.name)
        self._metrics.dead_letters.labels(dead_letter.reason).inc()
        if self._dead_letter_log.add(dead_letter):
            asyncio.get_running_loop().call_later(PERIOD_S, self._dead_letter_log.summarise)

    def close(self) -> None:
        """End the polling thread; unconfirmed dead letters are sent again after a restart."""
        self._closed = True

    async def _try(
        self, dead_letter: DeadLetter, failed_at: dt.datetime, payload: Payload
    ) -> KafkaError | None:
        """Send once and wait for the delivery report; return its error."""
        loop = asyncio.get_running_loop()
        report: asyncio.Future[KafkaError | None] = loop.create_future()

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_set_result, report, error)

        try:
            self._producer(payload).produce(
                self._topic,
                key=payload.key_of(dead_letter.record),
                value=payload.value_of(dead_letter.record),
                headers=headers_of(dead_letter, failed_at, payload),
                on_delivery=on_delivery,
            )
        except BufferError:
            return KafkaError(KafkaError._QUEUE_FULL)
        except KafkaException as error:
            cause = error.args[0]
            return cause if isinstance(cause, KafkaError) else KafkaError(KafkaError._FAIL)
        return await self._confirmed(report)

    async def _confirmed(self, report: asyncio.Future[KafkaError | None]) -> KafkaError | None:
        while True:
            done, _ = await asyncio.wait((report,), timeout=CONFIRM_TIMEOUT_S)
            if done:
                return report.result()
            problem = self._errors.current()
            if problem is None:
                self._stalls.waiting(SERVICE.name, f"{self._topic}: no confirmation yet", "")
            else:
                self._stalls.waiting(
                    SERVICE.name, f"{self._topic}: {problem.reason}", problem.remedy
                )

    async def _wait(self, error: KafkaError) -> None:
        """Report an error and wait until the next attempt."""
        if error.code() in MISSING:
            await self._create_topic()
        else:
            remedy = _REMEDIES.get(error.code(), "").format(topic=self._topic)
            self._stalls.waiting(SERVICE.name, f"{self._topic}: {plain(error.str())}", remedy)
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._producers.clear()  # a failed producer sends nothing; the next attempt opens one
        await asyncio.sleep(RETRY_S)

    async def _create_topic(self) -> None:
        """Create the topic, once for all dead letters that wait for it."""
        if self._creation is None:
            loop = asyncio.get_running_loop()
            self._creation = asyncio.ensure_future(
                loop.run_in_executor(None, create_topic, self._config, self._topic)
            )
        creation = self._creation
        problem = await creation
        if self._creation is creation:
            self._creation = None
        if problem:
            self._stalls.waiting(
                SERVICE.name,
                f"the topic {self._topic} does not exist and cannot be created: {plain(problem)}",
                f"create it (kafka-topics.sh --create --topic {self._topic}), allow the login to "
                "create it, or correct DEAD_LETTER_TOPIC",
            )

    def _producer(self, payload: Payload) -> Producer:
        """Return the producer for a payload; all but `WHOLE` have a batch of their own.

        librdkafka fails a whole batch as too large, with the small messages in it.
        """
        is_alone = payload is not Payload.WHOLE
        if is_alone not in self._producers:
            more: dict[str, Property] = {"batch.num.messages": 1} if is_alone else {}
            producer = self._producers[is_alone] = open_producer(self._config, self._errors, more)
            threading.Thread(
                target=self._poll, args=(producer,), name="dead-letters", daemon=True
            ).start()
        return self._producers[is_alone]

    def _poll(self, producer: Producer) -> None:
        with self._shutdown.guard("dead letters"):
            while not self._closed and (producer in self._producers.values() or len(producer)):
                producer.poll(0.5)


_REMEDIES = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow the login Write on {topic}",
    KafkaError.INVALID_RECORD: "the topic {topic} must not be compacted: set its "
    "cleanup.policy=delete, or give another DEAD_LETTER_TOPIC",
    KafkaError.POLICY_VIOLATION: "change the policy of {topic}, or give another DEAD_LETTER_TOPIC",
}


def _set_result(report: asyncio.Future[KafkaError | None], error: KafkaError | None) -> None:
    if not report.done():
        report.set_result(error)
