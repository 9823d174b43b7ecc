from __future__ import annotations

from datetime import datetime, timezone

import pytest

from dataflow.patience import SHORTEST_S, Patience


@pytest.fixture
def waited(monkeypatch):
    """Sets how long ago the last page came or went (seconds)."""
    now = 1000.0
    monkeypatch.setattr("dataflow.patience.time.monotonic", lambda: now)

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    return wait


def pause_s(look: Patience, open_pages: int) -> float:
    before = datetime.now(timezone.utc)
    return (look.next_look(open_pages) - before).total_seconds()


@pytest.mark.parametrize(
    ("waited_s", "open_pages", "at_most_s"),
    [(0.0, 1, 0.0006), (0.02, 1, 0.0006), (0.4, 2, 0.009), (3600.0, 2048, 0.1), (0.0, 2048, 0.021)],
)
def test_looking_adds_little_to_what_a_page_takes_anyway(waited, waited_s, open_pages, at_most_s):
    look = Patience()
    waited(waited_s)
    pauses = [pause_s(look, open_pages) for _ in range(50)]
    assert max(pauses) <= at_most_s
    assert max(pauses) > 0


def test_a_page_that_moved_makes_looking_frequent_again(waited):
    look = Patience()
    waited(60)
    look.moved()
    assert pause_s(look, 1) <= 2 * SHORTEST_S


def test_buckets_with_like_pauses_look_at_the_same_time(waited):
    first, second = Patience(), Patience()
    waited(1.0)
    third = Patience()
    waited(1.0)
    looks = [one.next_look(100) for one in (first, second)]
    step_s = 0.0384  # both wait 41 ms, rounded down to a power of two of the shortest pause
    assert (looks[1] - looks[0]).total_seconds() in (0.0, pytest.approx(step_s, abs=1e-5))
    finer = (third.next_look(100) - looks[0]).total_seconds() / (step_s / 2)
    assert finer == pytest.approx(round(finer), abs=1e-3)
