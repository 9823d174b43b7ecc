"""Many time limits, one timer."""

from __future__ import annotations

import asyncio
import time

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.http.timeouts import Timeouts


class Request:
    """Notes how much too late, in seconds, its time was found to be up."""

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.late_s: list[float] = []

    def time_out(self) -> None:
        self.late_s.append(time.monotonic() - self.ends)


@given(
    begun=st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=12),
)
@settings(max_examples=20, deadline=None)
def test_each_that_is_not_over_in_time_is_told_so_once(begun):
    """Whatever order they are begun in, and whichever are over before."""

    async def scene() -> None:
        limits, now = Timeouts(), time.monotonic()
        requests = [(Request(now + ms / 1000), is_over) for ms, is_over in begun]
        for request, _ in requests:
            limits.begin(request, request.ends)
        for request, is_over in requests:
            if is_over:
                limits.end(request)
        await asyncio.sleep(0.08)
        for request, is_over in requests:
            assert len(request.late_s) == (0 if is_over else 1)
            assert all(late_s >= 0.0 for late_s in request.late_s)

    uvloop.run(scene())


def test_one_that_ends_sooner_than_those_before_is_not_late():
    async def scene() -> None:
        limits, now = Timeouts(), time.monotonic()
        long, short = Request(now + 30), Request(now + 0.02)
        limits.begin(long, long.ends)
        limits.begin(short, short.ends)
        while not short.late_s:
            await asyncio.sleep(0.002)
        assert short.late_s[0] < 5
        assert not long.late_s

    uvloop.run(scene())


def test_what_is_begun_after_the_timer_has_rung_is_limited_too():
    async def scene() -> None:
        limits = Timeouts()
        for _ in range(3):
            request = Request(time.monotonic() + 0.005)
            limits.begin(request, request.ends)
            while not request.late_s:
                await asyncio.sleep(0.002)

    uvloop.run(scene())
