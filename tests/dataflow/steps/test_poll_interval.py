from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo

import pytest

from dataflow.steps.poll_interval import MIN_INTERVAL_S, PollInterval


@pytest.fixture
def waited(monkeypatch):
    """Sets how long ago the last page moved (seconds)."""
    now = 1000.0
    monkeypatch.setattr("dataflow.steps.poll_interval.time.monotonic", lambda: now)

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    return wait


class Clock(datetime):
    """A wall clock that a test sets."""

    at = datetime(2026, 1, 1, tzinfo=timezone.utc)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Clock:
        return cls.fromtimestamp(cls.at.timestamp(), tz)


def pauses_s(monkeypatch, look: PollInterval, open_pages: int) -> list[float]:
    """Return the intervals to the next poll, at many times of the clock."""
    monkeypatch.setattr("dataflow.steps.poll_interval.datetime", Clock)
    found = []
    for phase in range(100):
        monkeypatch.setattr(Clock, "at", Clock.at + timedelta(microseconds=137 * phase))
        found.append((look.next_poll(open_pages) - Clock.at).total_seconds())
    return found


@pytest.mark.parametrize(
    ("waited_s", "open_pages", "at_most_s"),
    [
        (0.0, 1, 0.0006),
        (0.02, 1, 0.0006),
        (0.4, 2, 0.009),
        (3600.0, 2048, 0.1),
        (0.0, 2048, 0.0385),
    ],
)
def test_polling_adds_little_to_the_time_of_a_page(
    waited, monkeypatch, waited_s, open_pages, at_most_s
):
    look = PollInterval()
    waited(waited_s)
    pauses = pauses_s(monkeypatch, look, open_pages)
    assert max(pauses) <= at_most_s
    assert max(pauses) > 0


def test_polling_is_frequent_again_after_a_page_has_moved(waited, monkeypatch):
    look = PollInterval()
    waited(60)
    look.reset()
    assert max(pauses_s(monkeypatch, look, 1)) <= 2 * MIN_INTERVAL_S


def test_buckets_with_similar_intervals_poll_at_the_same_time(waited):
    first, second = PollInterval(), PollInterval()
    waited(1.0)
    third = PollInterval()
    waited(1.0)
    looks = [one.next_poll(100) for one in (first, second)]
    step_s = 0.0384  # both intervals are 41 ms, rounded down
    assert (looks[1] - looks[0]).total_seconds() in (0.0, pytest.approx(step_s, abs=1e-5))
    finer = (third.next_poll(100) - looks[0]).total_seconds() / (step_s / 2)
    assert finer == pytest.approx(round(finer), abs=1e-3)
