from __future__ import annotations

import threading

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, cluster_main

from connectors.runtime.tuning.thread_state import keep_thread_state


def threads_seen(workers: int, *, kept: bool) -> list[int]:
    """Return for each item how many calls its thread has counted; without a state, one."""
    local = threading.local()

    def count(item: int) -> int:
        if kept:
            keep_thread_state()
        local.calls = getattr(local, "calls", 0) + 1
        return local.calls

    seen: list[int] = []
    flow = Dataflow("threads")
    items = op.input("items", flow, TestingSource(range(50)))
    op.output("seen", op.map("count", items, count), TestingSink(seen))
    cluster_main(flow, [], 0, worker_count_per_proc=workers)
    return seen


def test_a_worker_keeps_its_state_from_one_call_to_the_next():
    assert threads_seen(2, kept=True) == list(range(1, 51))


def test_without_it_each_call_has_a_new_state():
    assert set(threads_seen(2, kept=False)) == {1}
