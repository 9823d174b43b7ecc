"""The timeouts of many requests on one timer."""

from __future__ import annotations

import asyncio
import time

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.http.timeouts import Timeouts


class Request:
    """Records how late, in seconds, it is timed out."""

    def __init__(self, expires_at: float) -> None:
        self.expires_at = expires_at
        self.late_s: list[float] = []

    def time_out(self) -> None:
        self.late_s.append(time.monotonic() - self.expires_at)


@given(
    started=st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=12),
)
@settings(max_examples=20, deadline=None)
def test_each_request_that_is_not_over_in_time_is_timed_out_once(started):
    """In whatever order the requests start, and whichever are over before."""

    async def scene() -> None:
        timeouts, now = Timeouts(), time.monotonic()
        requests = [(Request(now + ms / 1000), is_over) for ms, is_over in started]
        for request, _ in requests:
            timeouts.start(request, request.expires_at)
        for request, is_over in requests:
            if is_over:
                timeouts.stop(request)
        await asyncio.sleep(0.08)
        for request, is_over in requests:
            assert len(request.late_s) == (0 if is_over else 1)
            assert all(late_s >= 0.0 for late_s in request.late_s)

    uvloop.run(scene())


def test_a_request_that_expires_before_earlier_ones_is_not_late():
    async def scene() -> None:
        timeouts, now = Timeouts(), time.monotonic()
        long, short = Request(now + 30), Request(now + 0.02)
        timeouts.start(long, long.expires_at)
        timeouts.start(short, short.expires_at)
        while not short.late_s:
            await asyncio.sleep(0.002)
        assert short.late_s[0] < 5
        assert not long.late_s

    uvloop.run(scene())


def test_a_request_that_starts_after_the_timer_has_fired_is_timed_out_too():
    async def scene() -> None:
        timeouts = Timeouts()
        for _ in range(3):
            request = Request(time.monotonic() + 0.005)
            timeouts.start(request, request.expires_at)
            while not request.late_s:
                await asyncio.sleep(0.002)

    uvloop.run(scene())
