"""Dead letters: the originals of what the stream gave up, each confirmed by the broker."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from connectors.core.records import DeadLetter
from connectors.kafka.admin import make_topic
from connectors.kafka.clients import open_producer
from connectors.kafka.config import KafkaConfig, Property
from connectors.kafka.dead_letters.log import PERIOD_S, DeadLetterLog
from connectors.kafka.dead_letters.message import Payload, headers_of
from connectors.kafka.error_messages import MISSING, plain
from connectors.kafka.error_monitor import KafkaErrorMonitor
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.runtime.shutdown import Shutdown

SERVICE = "dead-letters"
SAY_AFTER_S = 2.0
"""A letter that is not confirmed by then is a stall."""

RETRY_S = 1.0
_TOO_LARGE = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)


class DeadLetterProducer:
    """The producer of the dead-letter topic, idempotent, opened at the first letter.

    Delivery: every letter is confirmed by all in-sync replicas before `deliver` returns; until
    then it is tried again, so that a broker that is away stalls the stream and loses nothing.
    Bytewax's own Kafka sink has no delivery callback and loses messages in silence.

    Args:
        config: How Kafka is reached.
        topic: The dead-letter topic; made where it is missing, if the login may.
        errors: Hears of the producer's errors.
        stalls: Where waiting is reported.
        metrics: Where confirmed letters are counted.
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
        self._producers: dict[bool, Producer] = {}  # by whether its letters travel alone
        self._making: asyncio.Future[str] | None = None
        self._closed = False
        self._letters = DeadLetterLog()

    async def deliver(self, letter: DeadLetter) -> None:
        """Send a letter; returns when the broker has confirmed it. On the event loop only."""
        failed_at = dt.datetime.now(dt.timezone.utc)
        form = Payload.WHOLE
        while (error := await self._try(letter, failed_at, form)) is not None:
            if error.code() in _TOO_LARGE and form is not Payload.BARE:
                form = form.smaller()
            else:
                await self._wait_for_better(error)
        self._stalls.cleared(SERVICE)
        self._metrics.dead_letters.labels(letter.reason).inc()
        if self._letters.say(letter):
            asyncio.get_running_loop().call_later(PERIOD_S, self._letters.sum_up)

    def close(self) -> None:
        """End the polling thread; what is not confirmed by then is sent again after a restart."""
        self._closed = True

    async def _try(
        self, letter: DeadLetter, failed_at: dt.datetime, form: Payload
    ) -> KafkaError | None:
        """Produce once and wait for the report; returns the error, None if all is well."""
        loop = asyncio.get_running_loop()
        report: asyncio.Future[KafkaError | None] = loop.create_future()

        def on_delivery(error: KafkaError | None, _: Message) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, report, error)

        try:
            self._producer(form).produce(
                self._topic,
                key=form.key_of(letter.record),
                value=form.value_of(letter.record),
                headers=headers_of(letter, failed_at, form),
                on_delivery=on_delivery,
            )
        except BufferError:
            return KafkaError(KafkaError._QUEUE_FULL)
        except KafkaException as error:
            found = error.args[0]
            return found if isinstance(found, KafkaError) else KafkaError(KafkaError._FAIL)
        return await self._reported(report)

    async def _reported(self, report: asyncio.Future[KafkaError | None]) -> KafkaError | None:
        while True:
            done, _ = await asyncio.wait((report,), timeout=SAY_AFTER_S)
            if done:
                return report.result()
            told = self._errors.current()
            reason = told.reason if told else "no confirmation yet"
            self._stalls.waiting(SERVICE, f"{self._topic}: {reason}", told.remedy if told else "")

    async def _wait_for_better(self, error: KafkaError) -> None:
        if error.code() in MISSING:
            await self._make_topic()
        elif error.code() in _REMEDIES:
            self._stalls.waiting(
                SERVICE, f"{self._topic}: {plain(error.str())}", self._remedy(error)
            )
        else:
            self._stalls.waiting(SERVICE, f"{self._topic}: {plain(error.str())}")
        if (
            error.fatal() or error.code() == KafkaError._FATAL
        ):  # this producer will send nothing any more; the next try makes another
            self._producers.clear()
        await asyncio.sleep(RETRY_S)

    def _remedy(self, error: KafkaError) -> str:
        return _REMEDIES[error.code()].format(topic=self._topic)

    async def _make_topic(self) -> None:
        """Make the topic, once for all letters that wait for it."""
        if self._making is None:
            loop = asyncio.get_running_loop()
            self._making = asyncio.ensure_future(
                loop.run_in_executor(None, make_topic, self._config, self._topic)
            )
        making = self._making
        problem = await making
        if self._making is making:
            self._making = None
        if problem:
            self._stalls.waiting(
                SERVICE,
                f"the topic {self._topic} does not exist and cannot be made: {plain(problem)}",
                f"create it (kafka-topics.sh --create --topic {self._topic}), allow the login to, "
                "or correct DEAD_LETTER_TOPIC",
            )

    def _producer(self, form: Payload) -> Producer:
        """The producer for a form: a letter that was refused for its size must not share a batch.

        librdkafka fails a whole batch as too large, small letters in it too.
        """
        alone = form is not Payload.WHOLE
        if alone not in self._producers:
            more: dict[str, Property] = {"batch.num.messages": 1} if alone else {}
            producer = self._producers[alone] = open_producer(self._config, self._errors, more)
            threading.Thread(
                target=self._poll, args=(producer,), name="dead-letters", daemon=True
            ).start()
        return self._producers[alone]

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


def _settle(report: asyncio.Future[KafkaError | None], error: KafkaError | None) -> None:
    if not report.done():
        report.set_result(error)
