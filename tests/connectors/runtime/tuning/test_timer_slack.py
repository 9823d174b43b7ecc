"""How exactly worker threads wake."""

from __future__ import annotations

import ctypes
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, cluster_main

from connectors.runtime.tuning import timer_slack
from connectors.runtime.tuning.thread_state import keep_thread_state
from connectors.runtime.tuning.timer_slack import TimerSlack

PR_GET_TIMERSLACK = 30


def slack_ns() -> int:
    return int(ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0))


pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or slack_ns() < 0, reason="this kernel has no timer slack"
)


@pytest.fixture
def worker():
    """Runs code in another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda call: pool.submit(call).result(5)


def make_idle(process: TimerSlack) -> None:
    process._worked_at = time.monotonic() - timer_slack.IDLE_AFTER_S - 0.1


def test_a_worker_has_slack_while_the_process_is_idle(worker):
    process = TimerSlack()
    usual = worker(slack_ns)
    worker(process.adjust)
    assert worker(slack_ns) == usual
    make_idle(process)
    worker(process.adjust)
    assert worker(slack_ns) == timer_slack._IDLE_NS
    process.work_arrived()
    assert worker(slack_ns) == timer_slack._IDLE_NS, "each thread sets its own"
    worker(process.adjust)
    assert worker(slack_ns) == usual
    make_idle(process)
    worker(process.adjust)
    worker(process.work_arrived)
    assert worker(slack_ns) == usual, "a worker with work, at once"


def test_the_other_threads_of_the_process_keep_their_slack(worker):
    process = TimerSlack()
    make_idle(process)
    before = slack_ns()
    worker(process.adjust)
    assert worker(slack_ns) == timer_slack._IDLE_NS
    assert slack_ns() == before


def test_a_worker_of_bytewax_loses_its_slack_with_new_work():
    process, seen = TimerSlack(), list[int]()

    def step(item: int) -> int:
        keep_thread_state()
        if item == 0:
            make_idle(process)
            process.adjust()
        else:
            process.work_arrived()
        return slack_ns()

    flow = Dataflow("rest")
    items = op.input("items", flow, TestingSource(range(2)))
    op.output("seen", op.map("step", items, step), TestingSink(seen))
    cluster_main(flow, [], 0, worker_count_per_proc=2)
    assert seen[0] == timer_slack._IDLE_NS
    assert 0 < seen[1] < timer_slack._IDLE_NS


def test_the_kernel_is_called_only_for_changes(worker, monkeypatch):
    slacks: list[int] = []
    monkeypatch.setattr(timer_slack, "_set_slack", slacks.append)
    process = TimerSlack()
    for look in range(4):
        if look == 2:
            make_idle(process)
        worker(process.adjust)
    assert slacks == [timer_slack._USUAL_NS, timer_slack._IDLE_NS]


def test_a_thread_of_a_consumer_does_not_inherit_the_slack(worker):
    process = TimerSlack()
    usual = worker(slack_ns)
    make_idle(process)

    def start_one() -> int:
        process.adjust()
        with timer_slack.exact_threads(), ThreadPoolExecutor(1) as pool:
            return pool.submit(slack_ns).result(5)

    assert worker(start_one) == usual
    assert worker(slack_ns) == timer_slack._IDLE_NS


def test_workers_have_no_slack_although_the_main_thread_has(worker):
    process, usual, seen = TimerSlack(), slack_ns(), list[tuple[int, int]]()

    def step(_: int) -> tuple[int, int]:
        keep_thread_state()
        before = slack_ns()
        process.adjust()
        return before, slack_ns()

    def main_thread() -> int:
        timer_slack.give_slack()
        flow = Dataflow("slack")
        items = op.input("items", flow, TestingSource(range(2)))
        op.output("seen", op.map("step", items, step), TestingSink(seen))
        cluster_main(flow, [], 0, worker_count_per_proc=2)
        return slack_ns()

    assert worker(main_thread) == timer_slack._IDLE_NS
    assert seen[0] == (timer_slack._IDLE_NS, usual)
    assert slack_ns() == usual


def test_a_worker_has_more_slack_while_many_pages_are_open(worker):
    """Where hundreds of pages wait in line, a few milliseconds are nothing to one of them."""
    open_pages = [timer_slack.MANY_PAGES + 1]
    process = TimerSlack(lambda: open_pages[0])
    usual = slack_ns()
    worker(process.work_arrived)
    assert worker(slack_ns) == timer_slack._BUSY_NS
    open_pages[0] -= 1
    worker(process.adjust)
    assert worker(slack_ns) == usual
