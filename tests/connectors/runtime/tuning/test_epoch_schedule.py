"""Slots that a simulation polls as Bytewax does, in simulated time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from datetime import datetime, timedelta, timezone
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.runtime.tuning.epoch_schedule import CLOSING_MAX_S, EpochSchedule, SlotSchedule

BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
EPOCH_S = 1.0
TURN_S = 0.001
CALL_S = 5e-6
"""Time from Bytewax's reading of the clock to the slot's, whose clock has microseconds."""
FULL_S = 0.01
QUIET_S = 0.25


class Time:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> datetime:
        return BEGAN + timedelta(seconds=self.s)


class Slot:
    """A slot, with what Bytewax stores about it.

    Attributes:
        began_s: When its epoch began.
        epoch: The number of its epoch.
        due_s: When its next poll is due.
        unpolled_s: The longest time between two polls in the epoch before, and in this one.
    """

    def __init__(self, schedule: SlotSchedule, pause_s: float | None) -> None:
        self.schedule, self.pause_s = schedule, pause_s
        self.began_s = self.due_s = self.polled_s = 0.0
        self.epoch = 0
        self.unpolled_s = [0.0, 0.0]


class Bytewax:
    """Workers that poll their slots as `partitioned_input` of Bytewax 0.21.1 does.

    Args:
        workers: The pauses of each worker's slots.
        open_pages: The number of open pages.
        closing_s: Time until an epoch that all slots have ended is stored.
        lock_s: Longest wait of a thread for the interpreter's lock.
        seed: Seed of the waits.
        slots: The schedule of a slot.

    Attributes:
        busy_s: By epoch, how long workers looped although they might not poll a slot.
    """

    def __init__(
        self,
        workers: list[list[float | None]],
        *,
        open_pages: int = 2000,
        closing_s: float = 0.1,
        lock_s: float = 0.0,
        seed: int = 1,
        slots: type[SlotSchedule] = SlotSchedule,
    ) -> None:
        self.time = Time()
        epochs = EpochSchedule(EPOCH_S, self.time)
        self.workers = [[Slot(slots(epochs), pause) for pause in pauses] for pauses in workers]
        self.slots = list(itertools.chain(*self.workers))
        self.busy_s: dict[int, float] = defaultdict(float)
        self._may_be_polled_s = {0: 0.0}  # by epoch
        self._open_pages = open_pages
        self._closing_s = closing_s
        self._lock_s = lock_s
        self._random = Random(seed)

    def run(self, epochs: int, late_s: float = 0.0) -> None:
        """Run; in the second epoch the first worker does nothing for `late_s`."""
        turns = [(self.time.s, number) for number in range(len(self.workers))]
        until = epochs + min(slot.epoch for slot in self.slots)
        was_late = False
        while min(slot.epoch for slot in self.slots) < until:
            at_s, number = heapq.heappop(turns)
            self.time.s = max(self.time.s, at_s)
            next_s = self._turn(self.workers[number])
            if number == 0 and self.slots[0].epoch == 1 and not was_late:
                was_late, next_s = True, next_s + late_s
            heapq.heappush(turns, (next_s, number))

    def _turn(self, worker: list[Slot]) -> float:
        """Run one turn; return when the next one starts."""
        began_s = self.time.s
        if any(self._is_open(slot) and slot.due_s <= began_s for slot in worker):
            self.time.s += self._random.uniform(0, self._lock_s)
        for slot in worker:
            if not self._is_open(slot):
                continue
            if slot.due_s <= began_s:
                self._poll(slot, began_s)
            if began_s - slot.began_s >= EPOCH_S:
                self._end(slot, began_s)
        waiting = [slot for slot in worker if not self._is_open(slot)]
        next_s = max(min(slot.due_s for slot in worker), began_s + TURN_S)
        if any(slot.due_s <= began_s for slot in waiting):
            self.busy_s[waiting[0].epoch] += next_s - began_s
        return next_s

    def _is_open(self, slot: Slot) -> bool:
        return self._may_be_polled_s.get(slot.epoch, math.inf) <= self.time.s

    def _poll(self, slot: Slot, turn_s: float) -> None:
        slot.unpolled_s[1] = max(slot.unpolled_s[1], turn_s - slot.polled_s)
        slot.polled_s = turn_s
        self.time.s += CALL_S
        slot.schedule.polled()
        awake = slot.schedule.next_poll(slot.pause_s, self._open_pages)
        slot.due_s = (awake - BEGAN).total_seconds() if awake else turn_s + TURN_S

    def _end(self, slot: Slot, turn_s: float) -> None:
        self.time.s += CALL_S
        slot.schedule.begin()
        slot.began_s = turn_s
        slot.epoch += 1
        slot.unpolled_s = [slot.unpolled_s[1], 0.0]
        if all(other.epoch >= slot.epoch for other in self.slots):
            self._may_be_polled_s[slot.epoch] = self.time.s + self._closing_s


pauses = st.sampled_from([FULL_S, 0.05, QUIET_S])


@settings(max_examples=30, deadline=None)
@given(
    workers=st.lists(st.lists(pauses, min_size=1, max_size=4), min_size=1, max_size=4),
    open_pages=st.sampled_from([0, 1, 200, 2000, 3000]),
    share=st.floats(0.1, 0.9),
    lock_s=st.floats(0.0, 0.006),
    seed=st.integers(0, 1000),
)
def test_no_worker_busy_waits_while_an_epoch_ends(workers, open_pages, share, lock_s, seed):
    closing_s = share * min(0.003 + 150e-6 * open_pages, CLOSING_MAX_S)
    if not open_pages:
        lock_s = min(lock_s, 0.0002)  # no other thread runs
    bytewax = Bytewax(workers, open_pages=open_pages, closing_s=closing_s, lock_s=lock_s, seed=seed)
    bytewax.run(3)
    spread_s = len(workers) * (lock_s + TURN_S)  # they have the lock one after the other
    assert max(bytewax.busy_s.values(), default=0.0) <= len(workers) * spread_s


@settings(max_examples=30, deadline=None)
@given(
    workers=st.lists(st.lists(pauses, min_size=1, max_size=3), min_size=2, max_size=4),
    open_pages=st.sampled_from([0, 2000]),
    late_s=st.floats(0.0, 0.9 * EPOCH_S),
)
def test_the_slots_of_a_late_worker_end_their_epochs_with_the_others_again(
    workers, open_pages, late_s
):
    bytewax = Bytewax(workers, open_pages=open_pages, closing_s=0.002, seed=1)
    bytewax.run(6, late_s)
    bytewax.busy_s.clear()
    bytewax.run(3)
    assert max(bytewax.busy_s.values(), default=0.0) <= len(workers) * 0.02
    for slot in bytewax.slots:
        assert max(slot.unpolled_s) < max(slot.pause_s or 0.0, CLOSING_MAX_S) + 0.05


def test_without_a_common_schedule_a_worker_busy_waits():
    """The simulation shows it for slots that sleep independently."""

    class Alone(SlotSchedule):
        def next_poll(self, pause_s: float | None, open_pages: int) -> datetime | None:
            return None if pause_s is None else self._epoch.now() + timedelta(seconds=pause_s)

    bytewax = Bytewax([[FULL_S, QUIET_S]] * 4, closing_s=0.3, slots=Alone)
    bytewax.run(3)
    assert min(bytewax.busy_s.values()) > 4 * 0.2


@pytest.mark.parametrize(
    ("pause_s", "open_pages", "at_s", "wake_s"),
    [
        (0.25, 0, 0.5, 0.75),
        (0.25, 0, 0.9, 1.0),  # not past the end
        (FULL_S, 9, 0.975, 1.0),  # and not shortly before it
        (None, 9, 0.985, 1.0),
        (None, 0, 0.985, None),
        (0.0003, 0, 1.0, 1.003),
        (FULL_S, 2000, 1.001, 1.304),
        (FULL_S, 9000, 1.001, 1.401),
        (0.25, 0, 1.0, 1.25),
    ],
)
def test_a_slot_sleeps_until_the_epoch_ends_and_then_until_it_is_stored(
    pause_s, open_pages, at_s, wake_s
):
    time = Time()
    slot = SlotSchedule(EpochSchedule(EPOCH_S, time))
    time.s = at_s
    slot.polled()
    awake = slot.next_poll(pause_s, open_pages)
    assert awake == (None if wake_s is None else BEGAN + timedelta(seconds=wake_s))


def test_a_late_slot_does_not_wait_for_the_next_end():
    time = Time()
    clock = EpochSchedule(EPOCH_S, time)
    late, early = SlotSchedule(clock), SlotSchedule(clock)
    time.s = EPOCH_S
    early.begin()
    time.s += 0.001
    late.polled()
    assert late.next_poll(FULL_S, 0) == time() + timedelta(seconds=FULL_S)


def test_a_slot_waits_a_limited_time_for_a_worker_that_began_much_later():
    time = Time()
    clock = EpochSchedule(EPOCH_S, time)
    early = SlotSchedule(clock)
    time.s = 0.9
    SlotSchedule(clock)
    early.polled()
    met = EPOCH_S + CLOSING_MAX_S
    assert early.next_poll(QUIET_S, 0) == BEGAN + timedelta(seconds=met)
    time.s = met
    early.polled()
    assert early.next_poll(QUIET_S, 0) == time() + timedelta(seconds=QUIET_S)


def test_a_poll_that_lasts_past_the_end_is_followed_by_one_at_the_end():
    time = Time()
    slot = SlotSchedule(EpochSchedule(EPOCH_S, time))
    time.s = 0.97
    slot.polled()
    time.s = 1.01
    assert slot.next_poll(FULL_S, 2000) == BEGAN + timedelta(seconds=EPOCH_S)
