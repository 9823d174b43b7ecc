from __future__ import annotations

import asyncio
import datetime as dt
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError

from connectors.core.records import DeadLetter, Record
from connectors.kafka.config import KafkaConfig
from connectors.kafka.dead_letters.log import LINES_PER_PERIOD, PERIOD_S, DeadLetterLog
from connectors.kafka.dead_letters.message import Payload, headers_of, one_line
from connectors.kafka.dead_letters.producer import DeadLetterProducer
from connectors.kafka.error_monitor import KafkaErrorMonitor
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stall, Stalls
from connectors.runtime.shutdown import Shutdown
from tests.connectors.kafka.slots import MOCK_OPTIONS, TOPIC

DLQ = "cdc.pages.dlq"


def dead_letter(
    offset: int = 7, *, value: bytes | None = b"{", reason: str = "undecodable", **more: Any
):
    record = Record(TOPIC, 2, offset, 1234, b"key", value, **more)
    return DeadLetter(record, reason, "not JSON: unexpected end")


class Harness:
    """A producer of dead letters, with its metrics and stalls."""

    def __init__(
        self,
        broker: str,
        kind: type[DeadLetterProducer] = DeadLetterProducer,
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        config = KafkaConfig(broker, options={**MOCK_OPTIONS, **(options or {})})
        self.metrics = Metrics()
        self.stalls = Stalls(self.metrics)
        self.producer = kind(
            config,
            DLQ,
            errors=KafkaErrorMonitor(config, self.stalls),
            stalls=self.stalls,
            metrics=self.metrics,
            shutdown=Shutdown(watchdog_s=3600),
        )

    def run(self, use: Callable[[DeadLetterProducer], Awaitable[object]]) -> None:
        try:
            asyncio.run(asyncio.wait_for(use(self.producer), 60))
        finally:
            self.producer.close()

    def confirmed(self, reason: str = "undecodable") -> float:
        return self.metrics.dead_letters.labels(reason)._value.get()


def test_a_dead_letter_has_the_original_bytes_its_reason_and_its_origin(mock_kafka):
    harness = Harness(mock_kafka.broker)
    harness.run(lambda producer: producer.deliver(dead_letter()))
    (found,) = mock_kafka.read(DLQ)
    assert (found.key, found.value) == (b"key", b"{")
    assert found.headers["reason"] == b"undecodable"
    assert found.headers["detail"] == b"not JSON: unexpected end"
    assert found.headers["origin"] == b"cdc.pages:2:7"
    assert found.headers["gibsey-timestamp"] == b"1234"
    failed_at = dt.datetime.fromisoformat(found.headers["failed-at"].decode())
    assert abs(dt.datetime.now(dt.timezone.utc) - failed_at) < dt.timedelta(minutes=1)
    assert harness.confirmed() == 1


def test_the_dead_letter_of_a_replayed_record_names_the_first_origin(mock_kafka):
    harness = Harness(mock_kafka.broker)
    harness.run(lambda producer: producer.deliver(dead_letter(replay_of="cdc.pages:0:3")))
    (found,) = mock_kafka.read(DLQ)
    assert found.headers["origin"] == b"cdc.pages:0:3"


def test_a_tombstone_without_a_key_keeps_both_absent(mock_kafka):
    harness = Harness(mock_kafka.broker)
    record = Record(TOPIC, 0, 1, 0, None, None)
    harness.run(lambda producer: producer.deliver(DeadLetter(record, "undecodable", "x")))
    (found,) = mock_kafka.read(DLQ)
    assert (found.key, found.value) == (None, None)
    assert "original-size" not in found.headers


def test_dead_letters_wait_for_a_broker_that_is_down(mock_kafka):
    harness = Harness(mock_kafka.broker)

    async def use(producer: DeadLetterProducer) -> None:
        await producer.deliver(dead_letter(0))
        mock_kafka.down()
        waiting = [asyncio.ensure_future(producer.deliver(dead_letter(n))) for n in range(1, 50)]
        while not any(s.service == "dead-letters" for s in harness.stalls.current()):
            await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        mock_kafka.up()
        await asyncio.gather(*waiting)

    harness.run(use)
    origins = sorted(int(r.headers["origin"].split(b":")[2]) for r in mock_kafka.read(DLQ))
    assert origins == list(range(50))
    assert harness.confirmed() == 50
    assert not any(s.service == "dead-letters" for s in harness.stalls.current())


def test_a_dead_letter_of_a_record_that_is_too_large_has_no_value(mock_kafka):
    harness = Harness(mock_kafka.broker, options={"message.max.bytes": 20_000})

    async def use(producer: DeadLetterProducer) -> None:
        small = [producer.deliver(dead_letter(n)) for n in range(5)]
        await asyncio.gather(producer.deliver(dead_letter(99, value=b"x" * 30_000)), *small)

    harness.run(use)
    found = {r.headers["origin"]: r for r in mock_kafka.read(DLQ)}
    assert len(found) == 6
    large = found.pop(b"cdc.pages:2:99")
    assert large.value is None
    assert large.key == b"key"
    assert large.headers["original-size"] == b"30000"
    assert all(r.value == b"{" and "original-size" not in r.headers for r in found.values())


def test_a_dead_letter_refused_for_its_size_is_sent_alone_then_without_value_then_without_key():
    payloads = [Payload.WHOLE]
    while payloads[-1] is not Payload.BARE:
        payloads.append(payloads[-1].smaller())
    record = dead_letter().record
    assert [(p.key_of(record), p.value_of(record)) for p in payloads] == [
        (b"key", b"{"),
        (b"key", b"{"),
        (b"key", None),
        (None, None),
    ]
    now = dt.datetime.now(dt.timezone.utc)
    sized = [
        "original-size" in dict(headers_of(dead_letter(), now, payload)) for payload in payloads
    ]
    assert sized == [False, False, True, True]


def test_a_producer_that_cannot_be_opened_stalls_with_the_reason(mock_kafka):
    harness = Harness(mock_kafka.broker, options={"no.such.property": 1})

    async def use(producer: DeadLetterProducer) -> None:
        task = asyncio.ensure_future(producer.deliver(dead_letter()))
        while not (found := harness.stalls.current()):
            await asyncio.sleep(0.05)
        assert "no.such.property" in found[0].reason
        task.cancel()

    harness.run(use)


def test_a_detail_is_one_short_line():
    assert one_line("a\r\nb\x1b[31m" + "c" * 1000) == "a  b [31m" + "c" * 491


def test_many_dead_letters_are_logged_as_a_few_lines_and_a_number(capsys):
    now = [0.0]
    log = DeadLetterLog(clock=lambda: now[0])
    due = [log.add(dead_letter(n)) for n in range(1000)]
    assert due.count(True) == 1
    log.summarise()
    log.summarise()
    now[0] = PERIOD_S
    assert not log.add(dead_letter(1000))
    output = capsys.readouterr()
    lines = [line for line in (output.out + output.err).splitlines() if "dead letter" in line]
    assert len(lines) == LINES_PER_PERIOD + 2
    assert f"count={1000 - LINES_PER_PERIOD}" in lines[LINES_PER_PERIOD]
    assert "cdc.pages:2:0" in lines[0]


def test_many_dead_letters_of_one_reason_do_not_hide_one_of_another(capsys):
    log = DeadLetterLog(clock=lambda: 0.0)
    for n in range(100):
        log.add(dead_letter(n))
    log.add(dead_letter(100, reason="refused-by-rag"))
    output = capsys.readouterr()
    assert "cdc.pages:2:100" in output.out + output.err


def test_dead_letters_of_stored_pages_are_logged_as_a_number_and_not_as_errors(capsys):
    log = DeadLetterLog(clock=lambda: 0.0)
    assert [log.add(dead_letter(n, reason="other-space")) for n in range(3)] == [True, False, False]
    log.add(dead_letter(3))
    log.summarise()
    output = capsys.readouterr()
    given_up, stored = (output.out + output.err).splitlines()
    assert re.search(r"error.*dead letter .*origin=cdc.pages:2:3", given_up)
    assert re.search(r"info.*stored with vectors of the fallback .*pages=3", stored)


class Refusing(DeadLetterProducer):
    """Returns errors that the mock cluster cannot return."""

    errors: list[KafkaError]

    async def _try(self, *_: Any) -> KafkaError | None:
        return self.errors.pop(0) if self.errors else None


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "Write on cdc.pages.dlq"),
        (KafkaError.INVALID_RECORD, "cleanup.policy=delete"),
        (KafkaError.NOT_ENOUGH_REPLICAS, ""),
    ],
)
def test_an_error_of_the_topic_stalls_with_its_remedy_until_it_ends(mock_kafka, code, remedy):
    harness = Harness(mock_kafka.broker, Refusing)
    harness.producer.errors = [KafkaError(code)] * 2  # type: ignore[attr-defined]
    seen: list[Stall] = []

    async def use(producer: DeadLetterProducer) -> None:
        task = asyncio.ensure_future(producer.deliver(dead_letter()))
        await asyncio.sleep(0.1)
        seen.extend(harness.stalls._stalls.values())
        await task

    harness.run(use)
    assert remedy in seen[0].remedy
    assert seen[0].reason.startswith("cdc.pages.dlq: ")
    assert harness.confirmed() == 1
    assert harness.stalls.current() == []
