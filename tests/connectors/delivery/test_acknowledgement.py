from __future__ import annotations

import asyncio

import pytest

from connectors.core.errors import Rejection
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import DeadLetter, PageVector, Record
from connectors.delivery.acknowledgement import Acknowledgement, DeadLetterWriter
from connectors.observability.metrics import Metrics

NO = Rejection("refused-by-stargate", "no")


class Letters:
    """A dead-letter topic that confirms when the test says so."""

    def __init__(self) -> None:
        self.confirm = asyncio.Event()
        self.delivered: list[DeadLetter] = []

    async def deliver(self, letter: DeadLetter) -> None:
        await self.confirm.wait()
        self.delivered.append(letter)


def row(*, timestamp_ms: int = 98_000, written_us: int | None = None, replay: bool = False):
    origin = "cdc.pages:0:1" if replay else None
    record = Record("cdc.pages", 0, 7, timestamp_ms, None, b"{}", 0, origin)
    return PageVector("p", b"[1]", record, written_us)


class Desk:
    def __init__(self) -> None:
        self.letters = Letters()
        self.tracker, self.metrics = OffsetTracker(), Metrics()
        self.delivery = Acknowledgement(
            self.tracker, self.letters, self.metrics, clock=lambda: 100.0
        )

    def observed(self, since: str) -> list[float]:
        """Count and sum of the freshness observed."""
        return [
            self.metrics.registry.get_sample_value(
                f"gibsey_freshness_seconds_{sample}", {"since": since}
            )
            for sample in ("count", "sum")
        ]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_row_is_settled_and_measured_when_its_last_output_has_it(desk):
    page = row(written_us=97_000_000)
    desk.tracker.opened([page.record], outputs=2)
    asyncio.run(desk.delivery.row_done(page, None))
    assert desk.observed("kafka") == [0, 0]
    assert desk.tracker.open_pages == 1
    asyncio.run(desk.delivery.row_done(page, None))
    assert desk.observed("kafka") == [1, 2.0]
    assert desk.observed("write") == [1, 3.0]
    assert desk.tracker.open_pages == 0


def test_a_rejected_row_is_open_until_its_dead_letter_is_confirmed(desk):
    page = row()
    desk.tracker.opened([page.record])

    async def run() -> None:
        ending = asyncio.create_task(desk.delivery.row_done(page, NO))
        await asyncio.sleep(0)
        assert desk.tracker.open_pages == 1
        desk.letters.confirm.set()
        await ending

    asyncio.run(run())
    assert desk.letters.delivered == [DeadLetter(page.record, NO.reason, NO.detail)]
    assert desk.tracker.open_pages == 0


@pytest.mark.parametrize(
    ("page", "kafka", "write"),
    [
        (row(replay=True, written_us=1), 0, 0),  # its times are those of long ago
        (row(timestamp_ms=0), 0, 0),
        (row(timestamp_ms=200_000, written_us=200_000_000), 1, 1),  # a clock that is ahead
    ],
)
def test_freshness_is_measured_only_with_usable_timestamps(desk, page, kafka, write):
    desk.tracker.opened([page.record])
    asyncio.run(desk.delivery.row_done(page, None))
    assert desk.observed("kafka") == [kafka, 0]
    assert desk.observed("write") == [write, 0]


def test_a_dead_letter_is_settled_when_the_topic_has_it(desk):
    letter = DeadLetter(row().record, "undecodable", "no")
    desk.tracker.opened([letter.record])
    desk.letters.confirm.set()
    assert asyncio.run(DeadLetterWriter(desk.letters).write([letter])) == {}
    assert desk.tracker.open_pages == 1
    asyncio.run(desk.delivery.dead_letter_done(letter, None))
    assert desk.tracker.open_pages == 0


def test_a_row_of_the_fallback_is_open_until_its_dead_letter_is_confirmed(desk):
    page = PageVector("p", b"[1]", row().record, model="f", other_space=True)
    desk.tracker.opened([page.record], outputs=2)

    async def run() -> None:
        await desk.delivery.notification_done(page, None)
        ending = asyncio.create_task(desk.delivery.row_done(page, None))
        await asyncio.sleep(0)
        assert desk.tracker.open_pages == 1
        desk.letters.confirm.set()
        await ending

    asyncio.run(run())
    letter = DeadLetter(page.record, "other-space", "embedded by the fallback, f")
    assert desk.letters.delivered == [letter]
    assert desk.tracker.open_pages == 0


def test_a_rejected_row_of_the_fallback_leaves_both_dead_letters(desk):
    """Its notification holds the other vector, whatever becomes of the row."""
    page = PageVector("p", b"[1]", row().record, model="f", other_space=True)
    desk.tracker.opened([page.record])
    desk.letters.confirm.set()
    asyncio.run(desk.delivery.row_done(page, NO))
    assert [one.reason for one in desk.letters.delivered] == ["other-space", NO.reason]
    assert desk.tracker.open_pages == 0


def test_a_notification_of_a_vector_of_the_fallback_leaves_no_dead_letter(desk):
    page = PageVector("p", b"[1]", row().record, model="f", other_space=True)
    asyncio.run(desk.delivery.notification_done(page, None))
    assert desk.letters.delivered == []
