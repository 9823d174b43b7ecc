from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest

from connectors.runtime.event_loop import EventLoop
from tests.eventually import eventually


@pytest.fixture
def crashes() -> list[BaseException]:
    return []


@pytest.fixture
def event_loop(crashes) -> Iterator[EventLoop]:
    loop = EventLoop(crashes.append)
    yield loop
    loop.close()


async def answer(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def fail() -> None:
    raise RuntimeError("a bug")


def test_no_thread_is_started_before_the_first_use(crashes):
    before = threading.active_count()
    EventLoop(crashes.append).close()
    assert threading.active_count() == before


def test_many_threads_that_come_first_at_once_share_one_loop(event_loop):
    found: list[asyncio.AbstractEventLoop] = []
    gate = threading.Barrier(8)

    def look() -> None:
        gate.wait(10)
        found.append(event_loop.loop)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(map(id, found))) == 1
    assert len(found) == 8


def test_work_is_done_on_the_loop_s_own_thread_and_its_result_comes_back(event_loop):
    async def where() -> str:
        return threading.current_thread().name

    assert event_loop.submit(where()).result(10) == "event-loop"
    assert event_loop.submit(answer(5)).result(10) == 5


def test_calls_of_one_thread_are_done_in_their_order(event_loop):
    done: list[int] = []
    for number in range(1000):
        event_loop.call(done.append, number)
    event_loop.submit(answer(None)).result(10)
    assert done == list(range(1000))


def test_an_error_in_submitted_work_goes_to_whoever_waits_for_it(event_loop, crashes):
    with pytest.raises(RuntimeError, match="a bug"):
        event_loop.submit(fail()).result(10)
    assert crashes == []


def test_an_error_for_which_nobody_waits_is_fatal(event_loop, crashes):
    event_loop.call(lambda: event_loop.spawn(fail()))
    assert str(eventually(lambda: crashes)[0]) == "a bug"
    event_loop.call(lambda: 1 / 0)
    assert isinstance(eventually(lambda: crashes[1:])[0], ZeroDivisionError)
    event_loop.call(
        lambda: event_loop.call_at(event_loop.loop.time() + 0.001, lambda: dict[str, int]()["x"])
    )
    assert isinstance(eventually(lambda: crashes[2:])[0], KeyError)
    assert event_loop.submit(answer(1)).result(10) == 1  # what follows is up to whoever was told


def test_a_spawned_task_is_kept_until_it_has_ended(event_loop):
    ended = threading.Event()

    async def run() -> None:
        await asyncio.sleep(0.001)
        ended.set()

    event_loop.call(lambda: event_loop.spawn(run()))
    assert ended.wait(10)
    eventually(lambda: not event_loop._tasks)


def test_closing_cancels_what_runs_and_is_no_crash(event_loop, crashes):
    cancelled = threading.Event()
    running = threading.Event()

    async def run() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    event_loop.call(lambda: event_loop.spawn(run()))
    waiting = event_loop.submit(asyncio.Event().wait())
    assert running.wait(10)
    event_loop.close()
    assert cancelled.is_set()
    with pytest.raises(CancelledError):
        waiting.result(10)
    assert crashes == []
