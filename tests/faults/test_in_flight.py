"""Kills and stops with pages, rows and dead letters in flight."""

from __future__ import annotations

import pickle
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from connectors.delivery.backpressure import MAX_OPEN_PAGES
from connectors.delivery.write_queue import BACKLOG_ROWS
from tests.eventually import eventually
from tests.faults.service_faults import SHORT_LIMITS, fake_of
from tests.flow.service_recovery import process_first_pages
from tests.flow.stream import DONE_S, Stream
from tests.flow.worker import ROOT, Worker, passed_on

pytestmark = pytest.mark.timeout(400)

NEVER = ("-s", "3600")
"""Longer than a test, so that there is no snapshot after an acknowledgement."""


def replay(stream: Stream) -> subprocess.Popen[str]:
    """Start a replay of all dead letters."""
    return subprocess.Popen(
        [sys.executable, "-m", "gibsey_embedder.cli", "replay", "--yes"],
        env=passed_on() | stream.settings() | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kept_rows(stream: Stream, output: str) -> int:
    """Return the rows in flight that a start would send again now."""
    ended = "SELECT worker_frontier FROM fronts WHERE ex_num = (SELECT max(ex_num) FROM fronts)"
    newest = (
        "SELECT ser_change, max(snap_epoch) FROM snaps "
        "WHERE step_id = ? AND snap_epoch < ? GROUP BY state_key"
    )
    # a snapshot counts as soon as all workers have closed its epoch
    before = min((epoch for (epoch,) in in_store(stream, ended)), default=0)
    snapshots = in_store(stream, newest, f"pages.{output}", before)
    return sum(len(pickle.loads(change)[1]) for change, _ in snapshots)


def in_store(stream: Stream, query: str, *values: object) -> list[tuple[Any, ...]]:
    found = []
    for file in stream.store.glob("part-*.sqlite3"):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            found += database.execute(query, values).fetchall()
    return found


def open_pages(worker: Worker) -> int:
    return int(worker.status()["tasks"]["open_pages"])


def replayed(stream: Stream) -> int:
    return sum("gibsey-replay-of" in r.headers for r in stream.kafka.read(stream.topic))


def test_a_stop_with_two_thousand_open_pages_keeps_them_all_and_embeds_none_again(
    stream: Stream,
) -> None:
    stream.ollama.text_s = 0.02
    stream.feed(3000)
    worker = stream.start()
    worker.wait_for("status port")
    eventually(lambda: worker.status()["tasks"]["open_pages"] >= MAX_OPEN_PAGES, DONE_S)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 10
    size = sum(file.stat().st_size for file in Path(stream.store).glob("*.sqlite3"))
    assert size < 8 * 1024 * 1024, "the store grows with more than the open pages"
    stream.ollama.text_s = 0.0
    stream.start(4)
    stream.wait_complete()
    assert set(stream.embedded().values()) == {1}
    assert not stream.dead_letters()


def test_a_kill_between_acknowledgement_and_snapshot_stores_no_older_vector(
    stream: Stream,
) -> None:
    worker = stream.start(arguments=NEVER)
    stream.feed(100)
    stream.wait_complete()
    for number in range(0, 100, 3):
        stream.write(f"page {number}", f"a newer text of page number {number}")
    stream.wait_complete()
    worker.kill()
    for number in range(0, 100, 7):
        stream.write(f"page {number}", f"the newest text of page number {number}")
    stream.start(2)
    stream.wait_complete()
    stream.wait_committed()
    assert not stream.missing()


@pytest.mark.parametrize("name", ["stargate", "rag"])
def test_a_kill_with_rows_in_flight_sends_them_again_without_embedding(
    stream: Stream, name: str
) -> None:
    worker = process_first_pages(stream)
    fake_of(stream, name).faults.slow(3.0)
    stream.feed(300, start=100)
    eventually(lambda: sum(stream.embedded().values()) == 400, DONE_S)
    eventually(lambda: 100 < kept_rows(stream, name) == open_pages(worker), DONE_S)
    worker.kill()
    fake_of(stream, name).faults.clear()
    stream.start(2)
    stream.wait_complete()
    assert set(stream.embedded().values()) == {1}
    stream.wait_committed()


def test_rows_in_flight_survive_kills_and_changes_of_workers_and_processes(
    stream: Stream,
) -> None:
    stream.stargate.delay_s = 25.0  # so nothing is acknowledged
    stream.feed(300)
    for workers in (1, 4, None, 1):
        started = stream.start_cluster() if workers is None else [stream.start(workers)]
        eventually(lambda: kept_rows(stream, "stargate") == 300, DONE_S)
        for worker in started:
            worker.kill()
    stream.stargate.delay_s = 0.0
    stream.start(2)
    stream.wait_complete()
    assert set(stream.embedded().values()) == {1}
    stream.wait_committed()


@pytest.mark.parametrize("name", ["stargate", "rag"])
def test_the_embedder_runs_ahead_of_a_slow_output_only_as_far_as_needed(
    stream: Stream, name: str
) -> None:
    service = fake_of(stream, name)
    service.delay_s = 0.5  # 64 rows a second
    stream.ollama.text_s = 0.002  # 500: few of them are between embedder and outputs at a time
    stream.feed(1500)
    stream.start()
    eventually(lambda: service.stats.items >= 300, DONE_S)
    assert sum(stream.embedded().values()) < service.stats.items + 2 * (32 + BACKLOG_ROWS)


def test_the_embedder_continues_while_an_output_is_down(stream: Stream) -> None:
    stream.stargate.refuse()
    stream.feed(1500)
    stream.start()
    eventually(lambda: sum(stream.embedded().values()) == 1500, DONE_S)
    assert not stream.stargate.stats.items


def test_later_starts_do_not_send_acknowledged_rows_again(stream: Stream) -> None:
    stream.stargate.delay_s = 0.5
    worker = stream.start()
    stream.feed(300)
    eventually(lambda: kept_rows(stream, "stargate") > 0, DONE_S)
    stream.wait_complete()
    eventually(lambda: kept_rows(stream, "stargate") == 0, DONE_S)
    worker.kill()
    written = stream.stargate.stats.items
    worker = stream.start(2)
    stream.write("another", "a text")
    stream.wait_complete()
    worker.stop()
    assert stream.stargate.stats.items == written + 1


def test_acknowledged_rows_leave_the_snapshots_while_another_page_stays_open(
    stream: Stream,
) -> None:
    stream.stargate.delay_s = 0.5
    stream.start()
    stream.feed(300)
    eventually(lambda: kept_rows(stream, "stargate") > 0, DONE_S)
    eventually(lambda: sum(stream.embedded().values()) == 300, DONE_S)
    stream.ollama.refuse()
    stream.write("another", "a text")
    stream.wait_rows(300)
    eventually(lambda: kept_rows(stream, "stargate") == kept_rows(stream, "rag") == 0, DONE_S)


def test_a_newer_write_of_a_page_waits_for_a_write_that_hangs(stream: Stream) -> None:
    worker = process_first_pages(stream, code=SHORT_LIMITS)
    hung = stream.stargate.stats.faults
    stream.stargate.faults.hang(times=1, when=lambda request: "page%207" in request.path)
    stream.write("page 7", "text two of page seven")
    eventually(lambda: stream.stargate.stats.faults > hung, DONE_S)
    stream.write("page 7", "text three of page seven")
    stream.write("page 7", "text four of page seven")
    stream.wait_complete()
    stream.wait_committed()
    assert not stream.missing()
    worker.stop()


@pytest.mark.parametrize("store", [True, False])
def test_a_replay_survives_a_kill_and_changes_no_newer_page(stream: Stream, store: bool) -> None:
    worker = process_first_pages(stream, store=store, RAG_TIMEOUT="1")
    stream.rag.refuse()
    stream.feed(200)  # the same texts again, which are all notified again
    for number in range(200):
        stream.write(f"page {number}", f"another text of page number {number}")
    stream.wait_dead_letters(200)
    stream.wait_committed()
    stream.rag.accept()
    worker.wait_for("answers again +service=rag")
    for number in range(0, 200, 4):
        stream.write(f"page {number}", f"the newest text of page number {number}")
    stream.ollama.faults.slow(0.2)
    sending = replay(stream)
    eventually(lambda: replayed(stream) > 0, DONE_S)
    worker.kill()
    output = sending.communicate(timeout=DONE_S)[0]
    assert sending.returncode == 0, output
    stream.ollama.faults.clear()
    stream.start(store=store)
    stream.wait_complete()
    assert "0 to send" in replay(stream).communicate(timeout=DONE_S)[0]


def test_two_concurrent_replays_leave_all_pages_right(stream: Stream) -> None:
    worker = process_first_pages(stream, RAG_TIMEOUT="1")
    stream.rag.refuse()
    stream.feed(50, start=100)
    stream.wait_dead_letters(50)
    stream.rag.accept()
    worker.wait_for("answers again +service=rag")
    both = [replay(stream), replay(stream)]
    for one in both:
        output = one.communicate(timeout=DONE_S)[0]
        assert one.returncode == 0, output
    stream.wait_complete()
    stream.wait_committed()
    assert len(stream.dead_letters()) == 50
    assert max(stream.rag.counts.values()) <= 3
