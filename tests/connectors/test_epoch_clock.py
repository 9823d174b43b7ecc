"""Slots that turn as Bytewax turns them, by a time of their own."""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta, timezone
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.epoch_clock import CLOSING_LONGEST_S, EpochClock, SlotClock

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
EPOCH_S = 1.0
TURN_S = 0.001
FULL_S = 0.01
QUIET_S = 0.25


class Time:
    """The time, which a test moves."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> datetime:
        return BEGAN + timedelta(seconds=self.s)


class Worker:
    """One worker of Bytewax with its slots.

    Attributes:
        ended_at: When it ended its last epoch.
        waits: Whether that is not over for all workers.
    """

    def __init__(self, clock: EpochClock, pauses: list[float | None]) -> None:
        self.slots: list[tuple[SlotClock, float | None]] = [(clock.slot(), p) for p in pauses]
        self.due = [clock.now()] * len(pauses)
        self.ended_at = clock.now()
        self.waits = False


class Bytewax:
    """Workers whose slots are asked as `partitioned_input` of Bytewax 0.21.1 asks them.

    Args:
        workers: The pauses of each worker's slots.
        open_pages: Pages that are open all the time.
        closing_s: How long it takes until the last worker's end of an epoch is stored.
        lock_s: The longest that a thread waits for the interpreter's lock.
        seed: Of how long it waits.
    """

    def __init__(
        self,
        workers: list[list[float | None]],
        *,
        open_pages: int,
        closing_s: float,
        lock_s: float,
        seed: int,
    ) -> None:
        self.time = Time()
        clock = EpochClock(EPOCH_S, self.time)
        self.workers = [Worker(clock, pauses) for pauses in workers]
        self.lengths_s: list[float] = []
        self.in_vain_s = 0.0
        self._open_pages = open_pages
        self._closing_s = closing_s
        self._lock_s = lock_s
        self._random = Random(seed)

    def run(self, epochs: int) -> None:
        turns = [(0.0, number) for number in range(len(self.workers))]
        while len(self.lengths_s) < epochs:
            at_s, number = heapq.heappop(turns)
            self.time.s = max(self.time.s, at_s)
            worker = self.workers[number]
            if not worker.waits:
                self._turn(worker)
            if all(w.waits for w in self.workers):
                turns = self._close()
            elif not worker.waits:
                heapq.heappush(turns, (self._next_s(worker), number))

    def _turn(self, worker: Worker) -> None:
        began = self.time()
        for number, (slot, pause_s) in enumerate(worker.slots):
            if worker.due[number] <= began:
                self.time.s += self._random.uniform(0, self._lock_s) if not number else 1e-5
                awake = slot.next(pause_s, self._open_pages)
                worker.due[number] = awake or began + timedelta(seconds=TURN_S)
            if began - worker.ended_at >= timedelta(seconds=EPOCH_S):
                slot.begin()
                worker.waits = True
        if worker.waits:
            self.lengths_s.append((began - worker.ended_at).total_seconds())
            worker.ended_at = began

    def _close(self) -> list[tuple[float, int]]:
        """End the epoch for all; whoever was due before turned in vain until now."""
        self.time.s += self._closing_s
        for worker in self.workers:
            worker.waits = False
            in_vain = self.time() - max(min(worker.due), worker.ended_at)
            self.in_vain_s += max(0.0, in_vain.total_seconds())
        return [(max(self._next_s(w), self.time.s), n) for n, w in enumerate(self.workers)]

    def _next_s(self, worker: Worker) -> float:
        return (min(worker.due) - BEGAN).total_seconds()


pauses = st.sampled_from([None, FULL_S, 0.05, QUIET_S])


@settings(max_examples=50, deadline=None)
@given(
    workers=st.lists(st.lists(pauses, min_size=1, max_size=4), min_size=1, max_size=4),
    open_pages=st.sampled_from([0, 1, 200, 2000, 3000]),
    share=st.floats(0.1, 1.0),
    lock_s=st.floats(0.0, 0.006),
    seed=st.integers(0, 1000),
)
def test_no_worker_turns_in_vain_while_an_epoch_ends(workers, open_pages, share, lock_s, seed):
    expected_s = min(0.003 + 150e-6 * open_pages, CLOSING_LONGEST_S)
    if not open_pages:
        lock_s = min(lock_s, 0.0002)  # nobody else is at work
    bytewax = Bytewax(
        workers,
        open_pages=open_pages,
        closing_s=share * expected_s,
        lock_s=lock_s,
        seed=seed,
    )
    bytewax.run(epochs=3 * len(workers))
    spread_s = len(workers) * lock_s  # one after the other has the lock
    assert bytewax.in_vain_s <= 3 * len(workers) * spread_s + 0.01
    # without the first, whose beginnings differ by how long the slots took to be built
    assert max(bytewax.lengths_s) < EPOCH_S + expected_s + 0.1


def test_without_a_clock_for_all_a_worker_turns_in_vain():
    """What the simulation says of slots that sleep as they like."""

    class Alone(SlotClock):
        def next(self, pause_s: float | None, open_pages: int) -> datetime | None:
            return None if pause_s is None else self._epoch.now() + timedelta(seconds=pause_s)

    bytewax = Bytewax([[FULL_S, QUIET_S]] * 4, open_pages=2000, closing_s=0.3, lock_s=0.0, seed=1)
    for worker in bytewax.workers:
        worker.slots = [(Alone(slot._epoch), pause_s) for slot, pause_s in worker.slots]
    bytewax.run(epochs=12)
    assert bytewax.in_vain_s > 3 * 4 * 0.2


@pytest.mark.parametrize(
    ("pause_s", "open_pages", "at_s", "wake_s"),
    [
        (0.25, 0, 0.5, 0.75),
        (0.25, 0, 0.9, 1.0),  # not past the end
        (FULL_S, 9, 0.975, 1.0),  # nor shortly before it
        (None, 9, 0.985, 1.0),
        (None, 0, 0.985, None),
        (0.0003, 0, 1.0, 1.003),
        (FULL_S, 2000, 1.001, 1.304),
        (FULL_S, 9000, 1.001, 1.401),
        (0.25, 0, 1.0, 1.25),
    ],
)
def test_a_slot_sleeps_up_to_the_end_and_then_through_it(pause_s, open_pages, at_s, wake_s):
    time = Time()
    slot = EpochClock(EPOCH_S, time).slot()
    time.s = at_s
    awake = slot.next(pause_s, open_pages)
    assert awake == (None if wake_s is None else BEGAN + timedelta(seconds=wake_s))


def test_a_slot_that_is_late_does_not_wait_for_the_next_end():
    time = Time()
    clock = EpochClock(EPOCH_S, time)
    late, early = clock.slot(), clock.slot()
    time.s = EPOCH_S
    early.begin()
    time.s += 0.001
    assert late.next(FULL_S, 0) == time() + timedelta(seconds=FULL_S)
