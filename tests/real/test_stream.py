"""The whole stream with a real Kafka and a real Ollama; Stargate and the RAG service stand in."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable

import pytest

from tests.eventually import eventually
from tests.real.servers import Server
from tests.real.stream import Arrivals, RealStream, percentiles

pytestmark = [pytest.mark.real, pytest.mark.ollama, pytest.mark.timeout(240)]

LIVE_EDITS = 100
ROUNDS = 3
"""What else the machine does can only make it slower: the first good round counts."""
P99_S = 2.0
NEW_PARTITION_S = 60.0


def test_a_backlog_and_live_edits_become_rows_and_notifications(stream: RealStream):
    stream.feed(range(200))
    worker = stream.start()
    stream.wait_complete()
    assert set(stream.rag.counts.values()) == {1}
    stream.feed(range(0, 200, 10), "page {} says something else")
    stream.write("a/b ü 漢 'x'", "An id that needs care.", "c")
    stream.wait_complete()
    assert stream.rag.stats.items == 221
    assert not stream.dead_letters()
    eventually(lambda: worker.status()["lag"]["total"] == 0, 30)
    worker.stop()


def test_a_live_edit_is_there_within_two_seconds(stream: RealStream, show: Callable[[str], None]):
    stream.start()
    stream.feed(range(20))
    stream.wait_complete()
    for round_ in range(ROUNDS):
        took = []
        with Arrivals(stream) as arrivals:
            for number in range(LIVE_EDITS):
                page, sent = f"live {round_} {number}", time.monotonic()
                stream.write(page, f"A page that is edited at this moment: {page}.")
                took.append(arrivals.wait(page) - sent)
        median, p99 = percentiles(took)
        show(f"freshness of {LIVE_EDITS} live edits: p50 {median:.3f} s, p99 {p99:.3f} s")
        if p99 < P99_S:
            break
    assert p99 < P99_S


def test_nothing_is_lost_over_a_kill_and_restarts_with_other_numbers_of_workers(stream: RealStream):
    stream.feed(range(300))
    worker = stream.start(2)
    stream.wait_rows(80)
    worker.kill()
    stream.feed(range(0, 300, 7), "page {} says something newer")
    worker = stream.start(4)
    stream.wait_rows(180)
    worker.stop()
    stream.feed(range(300, 320))
    worker = stream.start(1)
    stream.wait_complete()
    worker.stop()
    assert not stream.dead_letters()


def test_a_clean_end_repeats_nothing(stream: RealStream):
    stream.feed(range(200))
    stream.topic.flush()
    worker = stream.start(2)
    stream.wait_rows(30)
    worker.stop()
    assert stream.rows < 200
    stream.start(3)
    stream.wait_complete()
    assert set(stream.rag.counts.values()) == {1}
    assert set(stream.stargate.vectors.writes.values()) == {1}


def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
    stream: RealStream, kafka_server: Server
):
    stream.feed(range(250))
    stream.topic.flush()
    worker = stream.start(2)
    stream.wait_rows(50)
    kafka_server.end()
    stream.feed(range(150, 300), "page {} says what was sent while the broker was away")
    kafka_server.start()
    stream.topic.flush()
    stream.wait_complete()
    stream.write("last", "After all of that.", "c")
    stream.wait_complete()
    worker.stop()


def test_a_worker_that_starts_before_the_broker_waits_for_it(
    stream: RealStream, kafka_server: Server
):
    stream.feed(range(20))
    stream.topic.flush()
    kafka_server.end(signal.SIGTERM)
    worker = stream.start()
    stream.wait_stalled(worker, "kafka")
    kafka_server.start()
    stream.wait_complete()
    worker.stop()


def test_an_ollama_that_is_stopped_and_comes_back_loses_nothing(
    stream: RealStream, ollama_server: Server
):
    stream.feed(range(300))
    worker = stream.start(2)
    stream.wait_rows(50)
    ollama_server.end(signal.SIGTERM)
    stream.wait_stalled(worker, "embedder")
    before = stream.rows
    ollama_server.start()
    assert before < 300
    stream.wait_complete()
    assert not stream.dead_letters()
    worker.stop()


def test_a_killed_model_process_costs_no_page(stream: RealStream, ollama_server: Server):
    stream.feed(range(300))
    worker = stream.start(2)
    for rows in (50, 100, 150):
        stream.wait_rows(rows)
        for runner in ollama_server.children():
            os.kill(runner, signal.SIGKILL)
    stream.wait_complete()
    assert not stream.dead_letters()
    worker.stop()


def test_a_missing_model_is_waited_for_by_name(stream: RealStream):
    late = f"late-{uuid.uuid4().hex[:8]}"
    stream.feed(range(30))
    worker = stream.start(EMBED_MODEL=late)
    try:
        worker.wait_for(f"ollama pull {late}")
        assert stream.rows == 0
        stream.embedder.copy(late)
        stream.wait_complete()
        assert not stream.dead_letters()
        worker.stop()
    finally:
        stream.embedder.remove(late)


def test_partitions_added_while_it_runs_are_read_within_a_minute(
    stream: RealStream, show: Callable[[str], None]
):
    worker = stream.start()
    stream.feed(range(20))
    stream.wait_complete()
    stream.topic.widen(6)
    began = time.monotonic()
    for partition in range(3, 6):
        stream.write(f"new {partition}", f"In partition {partition}.", "c", partition)
    stream.wait_complete(NEW_PARTITION_S)
    show(f"new partitions: read {time.monotonic() - began:.1f} s after they were added")
    worker.stop()


def test_a_topic_made_after_the_start_is_read(bare_stream: RealStream):
    worker = bare_stream.start()
    bare_stream.wait_stalled(worker, "kafka")
    bare_stream.topic.make()
    bare_stream.topic.make_letters()
    bare_stream.feed(range(20))
    bare_stream.wait_complete()
    worker.stop()
