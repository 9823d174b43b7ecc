"""How exactly worker threads are woken."""

from __future__ import annotations

import ctypes
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from connectors import rest
from connectors.rest import Rest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no other kernel has it")

PR_GET_TIMERSLACK = 30


def slack_ns() -> int:
    return int(ctypes.CDLL(None).prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0))


@pytest.fixture
def worker():
    """Runs code in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda call: pool.submit(call).result(5)


def quiet(process: Rest) -> None:
    process._worked_at = time.monotonic() - rest.AFTER_S - 0.1


def test_a_worker_is_woken_less_exactly_while_there_is_nothing_to_do(worker):
    process = Rest()
    usual = worker(slack_ns)
    worker(process.look)
    assert worker(slack_ns) == usual
    quiet(process)
    worker(process.look)
    assert worker(slack_ns) == rest._SLACK_NS
    process.worked()
    assert worker(slack_ns) == rest._SLACK_NS, "each thread sets its own"
    worker(process.look)
    assert worker(slack_ns) == usual


def test_the_other_threads_of_the_process_are_left_alone(worker):
    process = Rest()
    quiet(process)
    before = slack_ns()
    worker(process.look)
    assert worker(slack_ns) == rest._SLACK_NS
    assert slack_ns() == before


def test_the_kernel_is_told_only_of_changes(worker, monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(rest, "_set_slack", told.append)
    process = Rest()
    for look in range(4):
        if look == 2:
            quiet(process)
        worker(process.look)
    assert told == [rest._SLACK_NS]
