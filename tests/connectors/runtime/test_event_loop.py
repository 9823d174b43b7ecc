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


async def value_of(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def fail() -> None:
    raise RuntimeError("a bug")


def test_no_thread_is_started_before_the_first_use(crashes):
    before = threading.active_count()
    EventLoop(crashes.append).close()
    assert threading.active_count() == before


def test_threads_that_use_the_loop_first_at_the_same_time_share_it(event_loop):
    loops: list[asyncio.AbstractEventLoop] = []
    gate = threading.Barrier(8)

    def use() -> None:
        gate.wait(10)
        loops.append(event_loop.loop)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(set(map(id, loops))) == 1
    assert len(loops) == 8


def test_a_coroutine_runs_on_the_thread_of_the_loop_and_returns_its_result(event_loop):
    async def thread_name() -> str:
        return threading.current_thread().name

    assert event_loop.submit(thread_name()).result(10) == "event-loop"
    assert event_loop.submit(value_of(5)).result(10) == 5


def test_calls_of_one_thread_keep_their_order(event_loop):
    done: list[int] = []
    for number in range(1000):
        event_loop.call(done.append, number)
    event_loop.submit(value_of(None)).result(10)
    assert done == list(range(1000))


def test_an_error_in_a_submitted_coroutine_is_raised_for_its_caller(event_loop, crashes):
    with pytest.raises(RuntimeError, match="a bug"):
        event_loop.submit(fail()).result(10)
    assert crashes == []


def test_an_error_without_a_waiting_caller_is_fatal(event_loop, crashes):
    event_loop.call(lambda: event_loop.spawn(fail()))
    assert str(eventually(lambda: crashes)[0]) == "a bug"
    event_loop.call(lambda: 1 / 0)
    assert isinstance(eventually(lambda: crashes[1:])[0], ZeroDivisionError)
    event_loop.call(
        lambda: event_loop.call_at(event_loop.loop.time() + 0.001, lambda: dict[str, int]()["x"])
    )
    assert isinstance(eventually(lambda: crashes[2:])[0], KeyError)
    assert event_loop.submit(value_of(1)).result(10) == 1  # the loop itself continues


def test_a_spawned_task_is_kept_until_it_has_ended(event_loop):
    ended = threading.Event()

    async def run() -> None:
        await asyncio.sleep(0.001)
        ended.set()

    event_loop.call(lambda: event_loop.spawn(run()))
    assert ended.wait(10)
    eventually(lambda: not event_loop._tasks)


def test_close_cancels_the_tasks_without_a_crash(event_loop, crashes):
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
