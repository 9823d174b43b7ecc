"""The whole graph on Bytewax's workers and recovery store, with services in this process."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, cluster_main

from connectors.core.buckets import bucket_of
from connectors.core.errors import Rejection
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import DeadLetter, Outcome, PageVector, Record
from connectors.core.services import Service
from connectors.delivery.outputs import Output, OutputCounts
from connectors.delivery.write_queue import WriteQueue
from connectors.runtime.shutdown import Shutdown
from dataflow.graph import RAG_STEP, STORE_STEP, StreamParts, build
from dataflow.steps.changes import Change
from dataflow.steps.window import Window, WindowStep
from tests.connectors.embedders.manual_embedder import VECTOR, BatcherSetup, ManualEmbedder
from tests.eventually import eventually

EOF, ABORT = TestingSource.EOF, TestingSource.ABORT


class Writes:
    """A service that accepts every row, and keeps the rows in order."""

    rows_per_request = 1
    concurrency = 8

    def __init__(self) -> None:
        self.rows: list[PageVector | DeadLetter] = []

    async def write(self, rows: Sequence[PageVector | DeadLetter]) -> dict[int, Rejection]:
        self.rows.extend(rows)
        return {}

    @property
    def offsets(self) -> list[int]:
        return [row.record.offset for row in self.rows]


@dataclass
class World:
    """The services, which continue while the stream restarts."""

    stargate: Writes = field(default_factory=Writes)
    rag: Writes = field(default_factory=Writes)
    dead_letters: Writes = field(default_factory=Writes)
    tracker: OffsetTracker = field(default_factory=OffsetTracker)

    def stored(self) -> dict[str, int | None]:
        """Return the offset of each page's last row; None if the row was removed."""
        return {
            row.page_id: None if row.vector is None else row.record.offset
            for row in self.stargate.rows
            if isinstance(row, PageVector)
        }

    def run(
        self,
        events: Sequence[object],
        recovery: Path,
        *,
        workers: int = 1,
        delete_rows: bool = False,
    ) -> None:
        """Run the stream from its last snapshot to the end of the source."""
        setup = BatcherSetup(ManualEmbedder(_refuse_poison))
        self.tracker = OffsetTracker()
        shutdown = Shutdown(exit_process=_fail)

        async def settled(row: PageVector | DeadLetter, _refusal: Rejection | None) -> None:
            self.tracker.settle(row.record)

        def write_queue(
            writer: Writes, key: Callable[[PageVector | DeadLetter], str]
        ) -> WriteQueue:
            return WriteQueue(writer, key, settled, setup.event_loop)

        def output(step_id: str, writer: Writes, takes_deletes: bool) -> Output:
            rows = write_queue(writer, lambda row: row.page_id)
            return Output(step_id, Service(step_id, step_id), rows, 8, "", takes_deletes)

        outputs = [
            output(STORE_STEP, self.stargate, takes_deletes=True),
            output(RAG_STEP, self.rag, takes_deletes=False),
        ]
        counts = OutputCounts.of(outputs)
        parts = StreamParts(
            source=_Opening(events, self.tracker),
            window=WindowStep(
                setup.batcher, self.tracker, setup.metrics, shutdown, counts, delete_rows
            ),
            outputs=outputs,
            dead_letters=write_queue(self.dead_letters, lambda letter: letter.record.origin),
            tracker=self.tracker,
            metrics=setup.metrics,
            shutdown=shutdown,
        )
        try:
            cluster_main(
                build(parts),
                [],
                0,
                epoch_interval=timedelta(milliseconds=1),
                recovery_config=RecoveryConfig(str(recovery)),
                worker_count_per_proc=workers,
            )
        finally:
            setup.event_loop.close()
        assert not setup.crashes

    def run_until(self, is_done: Callable[[], bool], events, recovery: Path, **options) -> int:
        """Run the stream again and again until a condition holds; return the number of runs."""
        runs = 0

        def again() -> bool:
            nonlocal runs
            runs += 1
            self.run(events, recovery, **options)
            return is_done()

        eventually(again, within_s=30)
        return runs


class _Opening(TestingSource):
    """Opens records in the tracker, as the Kafka source does."""

    def __init__(self, events, tracker: OffsetTracker) -> None:
        super().__init__(events, batch_size=3)
        self._tracker = tracker

    def build_part(self, step_id, for_part, resume_state):
        part = super().build_part(step_id, for_part, resume_state)
        read = part.next_batch

        def next_batch():
            records = read()
            self._tracker.open(records)
            return records

        part.next_batch = next_batch
        return part


def _refuse_poison(texts: Sequence[str]) -> list[bytes | None]:
    return [None if text == "poison" else VECTOR for text in texts]


def _fail(code: int):
    raise AssertionError(f"the process would have ended with {code}")


@pytest.fixture
def recovery(tmp_path) -> Path:
    init_db_dir(tmp_path, 1)
    return tmp_path


def event(offset: int, page: str, body: str | None, op: str = "c") -> Record:
    value = json.dumps({"page_id": page, "body": body, "op": op}).encode()
    return Record("cdc.pages", 0, offset, 1000 + offset, None, value)


def pages(count: int, start: int = 0, prefix: str = "page") -> list[Record]:
    return [event(n, f"{prefix} {n}", f"text {n}") for n in range(start, start + count)]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_page_reaches_both_outputs_once_across_any_number_of_restarts(recovery, workers):
    world = World()
    events = [*pages(50), EOF(), *pages(50, 50), EOF(), *pages(20, 100)]
    world.run_until(lambda: len(world.stored()) == 120, events, recovery, workers=workers)
    assert sorted(world.stargate.offsets) == list(range(120))
    assert sorted(world.rag.offsets) == list(range(120))
    assert world.dead_letters.rows == []
    assert world.tracker.open_pages == 0


def test_each_worker_keeps_its_python_thread_state_between_calls(recovery, monkeypatch):
    local, calls, on_batch = threading.local(), [], Window.on_batch

    def counted(window: Window, values: list[list[Change]]) -> tuple[list[list[Outcome]], bool]:
        local.calls = getattr(local, "calls", 0) + 1
        calls.append(local.calls)
        return on_batch(window, values)

    monkeypatch.setattr(Window, "on_batch", counted)
    World().run(pages(200), recovery, workers=2)
    assert len(calls) > 10
    assert calls.count(1) <= 2


@pytest.mark.parametrize("workers", [2, 3, 4, 5, 8, 16])
def test_a_page_and_its_rows_stay_on_one_worker_and_workers_share_the_load(
    recovery, monkeypatch, workers
):
    embeds: dict[str, int] = {}
    writes: dict[str, set[int]] = {}
    on_batch, put = Window.on_batch, WriteQueue.put

    def seen(window: Window, values: list[list[Change]]) -> tuple[list[list[Outcome]], bool]:
        embeds[bucket_of(values[0][0].page_id)] = threading.get_ident()
        return on_batch(window, values)

    def put_down(
        write_queue: WriteQueue, bucket: str, rows: Sequence[PageVector], **options
    ) -> None:
        writes.setdefault(bucket, set()).add(threading.get_ident())
        put(write_queue, bucket, rows, **options)

    monkeypatch.setattr(Window, "on_batch", seen)
    monkeypatch.setattr(WriteQueue, "put", put_down)
    world = World()
    world.run_until(lambda: len(world.stored()) == 200, pages(200), recovery, workers=workers)
    assert writes == {bucket: {worker} for bucket, worker in embeds.items()}
    shares = Counter(embeds.values())
    assert len(shares) == workers
    assert max(shares.values()) - min(shares.values()) <= 1


def test_work_lost_in_a_kill_is_redone_and_nothing_is_missing(recovery):
    world = World()
    events = [*pages(40), ABORT(), *pages(40, 40), ABORT(), *pages(20, 80)]
    world.run_until(lambda: len(world.stored()) == 100, events, recovery)
    assert set(world.stargate.offsets) == set(world.rag.offsets) == set(range(100))


def test_a_run_resumes_with_another_number_of_workers(recovery):
    world = World()
    events = [*pages(40), EOF(), *pages(40, 40), EOF(), *pages(40, 80)]
    for workers in (1, 4, 2):
        world.run(events, recovery, workers=workers)
    world.run_until(lambda: len(world.stored()) == 120, events, recovery)
    assert Counter(world.stargate.offsets) == Counter(range(120))


def test_the_newest_change_of_each_page_wins_across_kills_and_restarts(recovery):
    world = World()
    edits = [event(n, f"page {n % 7}", f"text {n}", "u") for n in range(200)]
    events = [*edits[:60], ABORT(), *edits[60:120], EOF(), *edits[120:170], ABORT(), *edits[170:]]
    newest = {f"page {n % 7}": n for n in range(200)}
    world.run_until(lambda: world.stored() == newest, events, recovery)
    world.run(events, recovery)  # another run changes nothing
    assert world.stored() == newest


def test_events_that_cannot_be_decoded_or_embedded_become_dead_letters(recovery):
    world = World()
    broken = Record("cdc.pages", 0, 1, 1, None, b"{}")
    events = [event(0, "a", "text"), broken, event(2, "b", "poison"), event(3, "c", "text")]
    world.run_until(lambda: len(world.dead_letters.rows) == 2, events, recovery)
    world.run_until(lambda: len(world.stored()) == 2, events, recovery)
    assert set(world.stored()) == {"a", "c"}
    reasons = {letter.record.offset: letter.reason for letter in world.dead_letters.rows}
    assert reasons == {1: "undecodable", 2: "refused-by-embedder"}
    assert world.tracker.open_pages == 0


def test_a_delete_removes_the_row_and_is_not_notified(recovery):
    world = World()
    events = [*pages(5), EOF(), event(5, "page 2", None, "d")]
    world.run_until(
        lambda: len(world.stored()) == 5 and None in world.stored().values(),
        events,
        recovery,
        delete_rows=True,
    )
    assert [page for page, offset in world.stored().items() if offset is None] == ["page 2"]
    assert 5 not in world.rag.offsets
