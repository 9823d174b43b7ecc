from __future__ import annotations

import asyncio

import pytest

from connectors.core.errors import Rejection
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import DeadLetter, PageVector, Record
from connectors.delivery.acknowledgement import Acknowledgement, DeadLetterWriter
from connectors.observability.metrics import Metrics

NO = Rejection("refused-by-stargate", "no")


class ManualTopic:
    """A dead-letter topic that confirms on the test's command."""

    def __init__(self) -> None:
        self.confirm = asyncio.Event()
        self.delivered: list[DeadLetter] = []

    async def deliver(self, dead_letter: DeadLetter) -> None:
        await self.confirm.wait()
        self.delivered.append(dead_letter)


def row(*, timestamp_ms: int = 98_000, written_us: int | None = None, replay: bool = False):
    origin = "cdc.pages:0:1" if replay else None
    record = Record("cdc.pages", 0, 7, timestamp_ms, None, b"{}", 0, origin)
    return PageVector("p", b"[1]", record, written_us)


class Harness:
    def __init__(self) -> None:
        self.topic = ManualTopic()
        self.tracker, self.metrics = OffsetTracker(), Metrics()
        self.acknowledgement = Acknowledgement(
            self.tracker, self.topic, self.metrics, clock=lambda: 100.0
        )

    def observed(self, since: str) -> list[float]:
        """Return count and sum of the measured freshness."""
        return [
            self.metrics.registry.get_sample_value(
                f"gibsey_freshness_seconds_{sample}", {"since": since}
            )
            for sample in ("count", "sum")
        ]


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_row_is_settled_and_measured_when_its_last_output_has_it(harness):
    page = row(written_us=97_000_000)
    harness.tracker.open([page.record], outputs=2)
    asyncio.run(harness.acknowledgement.row_done(page, None))
    assert harness.observed("kafka") == [0, 0]
    assert harness.tracker.open_pages == 1
    asyncio.run(harness.acknowledgement.row_done(page, None))
    assert harness.observed("kafka") == [1, 2.0]
    assert harness.observed("write") == [1, 3.0]
    assert harness.tracker.open_pages == 0


def test_a_rejected_row_is_open_until_its_dead_letter_is_confirmed(harness):
    page = row()
    harness.tracker.open([page.record])

    async def run() -> None:
        ending = asyncio.create_task(harness.acknowledgement.row_done(page, NO))
        await asyncio.sleep(0)
        assert harness.tracker.open_pages == 1
        harness.topic.confirm.set()
        await ending

    asyncio.run(run())
    assert harness.topic.delivered == [DeadLetter(page.record, NO.reason, NO.detail)]
    assert harness.tracker.open_pages == 0


@pytest.mark.parametrize(
    ("page", "kafka", "write"),
    [
        (row(replay=True, written_us=1), 0, 0),  # its timestamps are those of the original
        (row(timestamp_ms=0), 0, 0),
        (row(timestamp_ms=200_000, written_us=200_000_000), 1, 1),  # a clock that is ahead
    ],
)
def test_freshness_is_measured_only_with_usable_timestamps(harness, page, kafka, write):
    harness.tracker.open([page.record])
    asyncio.run(harness.acknowledgement.row_done(page, None))
    assert harness.observed("kafka") == [kafka, 0]
    assert harness.observed("write") == [write, 0]


def test_a_dead_letter_is_settled_when_the_topic_has_it(harness):
    dead_letter = DeadLetter(row().record, "undecodable", "no")
    harness.tracker.open([dead_letter.record])
    harness.topic.confirm.set()
    assert asyncio.run(DeadLetterWriter(harness.topic).write([dead_letter])) == {}
    assert harness.tracker.open_pages == 1
    asyncio.run(harness.acknowledgement.dead_letter_done(dead_letter, None))
    assert harness.tracker.open_pages == 0


def test_a_row_of_the_fallback_is_open_until_its_dead_letter_is_confirmed(harness):
    page = PageVector("p", b"[1]", row().record, model="f", other_space=True)
    harness.tracker.open([page.record], outputs=2)

    async def run() -> None:
        await harness.acknowledgement.notification_done(page, None)
        ending = asyncio.create_task(harness.acknowledgement.row_done(page, None))
        await asyncio.sleep(0)
        assert harness.tracker.open_pages == 1
        harness.topic.confirm.set()
        await ending

    asyncio.run(run())
    dead_letter = DeadLetter(page.record, "other-space", "embedded by the fallback, f")
    assert harness.topic.delivered == [dead_letter]
    assert harness.tracker.open_pages == 0


def test_a_rejected_row_of_the_fallback_leaves_both_dead_letters(harness):
    """Its notification holds the other vector, whatever the store does with the row."""
    page = PageVector("p", b"[1]", row().record, model="f", other_space=True)
    harness.tracker.open([page.record])
    harness.topic.confirm.set()
    asyncio.run(harness.acknowledgement.row_done(page, NO))
    assert [one.reason for one in harness.topic.delivered] == ["other-space", NO.reason]
    assert harness.tracker.open_pages == 0


def test_a_notification_of_a_vector_of_the_fallback_leaves_no_dead_letter(harness):
    page = PageVector("p", b"[1]", row().record, model="f", other_space=True)
    asyncio.run(harness.acknowledgement.notification_done(page, None))
    assert harness.topic.delivered == []
