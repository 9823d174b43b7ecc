"""Slow stops, and restarts with other numbers of workers and processes."""

from __future__ import annotations

import re
import time

import pytest

from tests.eventually import eventually
from tests.flow.stream import DONE_S, Stream

pytestmark = pytest.mark.timeout(400)


def test_the_watchdog_ends_a_stop_while_the_embedder_hangs_and_nothing_is_lost(
    stream: Stream,
) -> None:
    stream.feed(50)
    stream.ollama.faults.hang(when=lambda request: request.mentions("page number"))
    worker = stream.start(2)
    eventually(lambda: stream.ollama.stats.faults > 0, DONE_S)
    began = time.monotonic()
    worker.signal()
    assert worker.wait(40) == 0
    assert 14 < time.monotonic() - began < 25
    assert re.search(r"some requests are still open.* pages=[1-9]", worker.log)
    stream.ollama.faults.clear()
    stream.start(1)
    stream.wait_complete()
    assert not stream.dead_letters()


def test_a_store_works_with_any_number_of_workers_and_processes(stream: Stream) -> None:
    stream.ollama.text_s = 0.003
    stream.feed(1000)
    for shape, rows in (("1", 150), ("4", 350), ("2x2", 550), ("3x1", 750), ("1", 1000)):
        if "x" in shape:
            processes, workers = map(int, shape.split("x"))
            members = stream.start_cluster(processes, workers)
        else:
            members = [stream.start(int(shape))]
        stream.wait_rows(rows)
        for member in members:
            member.signal()
        assert [member.wait(30) for member in members] == [0] * len(members)
    stream.wait_complete(1)
    assert set(stream.embedded().values()) == {1}
    assert set(stream.rag.counts.values()) == {1}
    assert not stream.dead_letters()


def test_a_process_of_a_cluster_can_stop_alone_and_all_resume_together(
    stream: Stream,
) -> None:
    stream.feed(100)
    members = stream.start_cluster()
    stream.wait_rows(50)
    members[1].signal()
    assert members[1].wait(40) == 0
    members[0].wait(40)
    stream.feed(100, start=100)
    members = stream.start_cluster()
    stream.wait_complete()
    for member in members:
        member.signal()
    assert [member.wait(30) for member in members] == [0, 0]
    assert not stream.dead_letters()


FULL_DISK = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
"""


@pytest.mark.parametrize("workers", [1, 4])
def test_a_full_disk_of_the_recovery_store_ends_the_program_in_one_line_and_nothing_is_lost(
    stream: Stream, workers: int
) -> None:
    stream.ollama.text_s = 0.001
    stream.feed(1500)
    worker = stream.start(workers, code=FULL_DISK)
    assert worker.wait() == 1
    assert re.search(r"fatal +where=bytewax .*recovery store cannot be written.*space", worker.log)
    assert "Traceback" not in worker.log
    stream.start(workers)
    stream.wait_complete()
    assert not stream.dead_letters()
