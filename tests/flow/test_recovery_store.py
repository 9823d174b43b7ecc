"""A recovery store of version 0.2.0: finished to the last row, or rejected with a remedy.

`tests/samples/recovery-0.2.0/README.md` describes the content of the store.
"""

from __future__ import annotations

import json
import pickle
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.ngrams import embed_text
from tests.eventually import eventually
from tests.flow.recovery_sample import Event, Sample, copy_store, partition_files, produce
from tests.flow.stream import DONE_S, TOLERANCE, TOPIC, Stream
from tests.flow.worker import ROOT, Worker

SAMPLE = ROOT / "tests/samples/recovery-0.2.0"
LONG_CHARS = 500
"""Only long pages, and the parts in which they are embedded, have more characters."""
DEAD_LETTER_REASONS = ("undecodable", "refused-by-rag")
"""The reasons of the dead letters that are still to be written, one of each."""


@pytest.fixture
def sample(stream: Stream, mock_kafka: MockKafka) -> Sample:
    """The store in its place, the topic as it was, and the rows that version 0.2.0 had stored."""
    sample = Sample.load(SAMPLE)
    copy_store(SAMPLE, stream.directory / "recovery")
    sample.produce(mock_kafka)
    rows = sample.stored_texts().items()
    stream.stargate.vectors.seed((page, {"vector": embed_text(text)}) for page, text in rows)
    return sample


# --- a store that is read


@pytest.mark.parametrize("workers", [1, 4])
def test_a_store_is_finished_and_its_page_versions_still_count(
    stream: Stream, mock_kafka: MockKafka, sample: Sample, workers: int
) -> None:
    worker = resume(stream, sample, workers)
    wait_finished(stream, sample)
    assert_finished(stream, sample)
    send(mock_kafka, old_events(sample))
    stream.wait_committed()
    new = new_events(sample)
    send(mock_kafka, new)
    stream.wait_committed()
    assert_vectors(stream.stargate.vectors.vector, sample, new)
    assert_vectors(stream.rag.vector, sample, new)
    embedded = [event for event in sample.awaiting("embed") if "store" in event.awaits]
    assert outcomes(worker) == Counter(
        embedded=len(embedded) + len(new),
        coalesced=sum(event.state == "open" for event in sample.events) - count_open(embedded),
        refused=1,  # the one that is undecodable
        skipped_stale=3,
        skipped_unchanged=3,
    )
    assert "reading from the earliest" not in worker.log
    worker.stop()
    assert stream.stargate.vectors.writes == counted(sample.awaiting("store"), new)
    assert stream.rag.counts == counted(sample.awaiting("notify"), new)
    assert len(stream.dead_letters()) == len(DEAD_LETTER_REASONS)


def resume(stream: Stream, sample: Sample, workers: int) -> Worker:
    """Start with the settings of the store; RAG refuses one of the notifications."""
    rejected = [event.page_id for event in sample.awaiting("refused-by-rag")]
    stream.rag.faults.status(422, when=lambda request: any(map(request.mentions, rejected)))
    settings: dict[str, Any] = {**sample.settings}
    return stream.start(workers, **settings)


def wait_finished(stream: Stream, sample: Sample) -> None:
    """Wait until nothing is to be done any more."""
    stored, notified = len(sample.awaiting("store")), len(sample.awaiting("notify"))
    eventually(lambda: stream.stargate.vectors.writes.total() >= stored, DONE_S)
    eventually(lambda: stream.rag.stats.items >= notified, DONE_S)
    stream.wait_dead_letters(len(DEAD_LETTER_REASONS))
    stream.wait_committed()


def assert_finished(stream: Stream, sample: Sample) -> None:
    """Check that all that was to be done is done, once, and nothing else."""
    stored, notified = sample.awaiting("store"), sample.awaiting("notify")
    vectors = stream.stargate.vectors
    assert vectors.writes == counted(stored)
    assert stream.rag.counts == counted(notified)
    assert_vectors(vectors.vector, sample, stored)
    assert_vectors(stream.rag.vector, sample, notified)
    removed = {event.page_id for event in sample.awaiting("remove")}
    assert {write.page_id for write in vectors.history if write.kind == "delete"} == removed
    assert vectors.rows.keys() == (sample.stored_texts().keys() | counted(stored)) - removed
    assert_embedded(stream, sample)
    assert_dead_letters(stream, sample)


def assert_vectors(
    found: Callable[[str], list[float] | None], sample: Sample, events: Iterable[Event]
) -> None:
    for event in events:
        right = sample.vectors.get(event.page_id) or embed_text(event.text)
        assert found(event.page_id) == pytest.approx(right, rel=0, abs=TOLERANCE), event.page_id


def assert_embedded(stream: Stream, sample: Sample) -> None:
    """Check that the embedder got each open text once, and none that has its vector already."""
    texts = {event.text for event in sample.events if event.text}
    wanted = {event.text for event in sample.awaiting("embed")}
    long = {text for text in texts if len(text) > LONG_CHARS}
    assert Counter(text for text in stream.ollama.texts if text in texts) == Counter(wanted - long)
    for text in long:
        parts = [part for part in stream.ollama.texts if len(part) > LONG_CHARS and part in text]
        assert "".join(sorted(parts, key=text.index)) == (text if text in wanted else "")


def assert_dead_letters(stream: Stream, sample: Sample) -> None:
    found = {
        dead_letter.headers["origin"].decode(): (
            dead_letter.headers["reason"].decode(),
            dead_letter.value,
        )
        for dead_letter in stream.dead_letters()
    }
    assert len(found) == len(stream.dead_letters())
    assert found == {
        f"{sample.topic}:{event.partition}:{event.offset}": (reason, event.value.encode())
        for reason in DEAD_LETTER_REASONS
        for event in sample.awaiting(reason)
    }


def count_open(events: Iterable[Event]) -> int:
    return sum(event.state == "open" for event in events)


def counted(*groups: Iterable[Event]) -> Counter[str]:
    """How many events each page has."""
    return Counter(event.page_id for group in groups for event in group)


def outcomes(worker: Worker) -> Counter[str]:
    """How many events had which outcome."""
    pattern = r'^gibsey_events_total\{.*outcome="(\w+)".*\} (\S+)$'
    found: Counter[str] = Counter()
    for outcome, count in re.findall(pattern, worker.metrics(), re.MULTILINE):
        found[outcome] += int(float(count))
    return found


# --- events of pages whose versions only the store knows


def old_events(sample: Sample) -> list[Event]:
    """Three events that are older than what the store has of the page, and three repeated texts."""
    flat, cells = sample.newest("settled page 5"), sample.newest("settled in Cassandra")
    deleted, on_its_way = sample.newest("deleted in Cassandra"), sample.newest("unstored page")
    # flat events of two partitions are in the order of their timestamps
    other = replace(flat, partition=(flat.partition + 1) % sample.partitions)
    return [
        later(other, "An older text.", -1),
        later(cells, "An older text.", -1),
        later(deleted, "A text older than the delete.", -1),
        *(later(event, event.text, +1) for event in (flat, cells, on_its_way)),
    ]


def new_events(sample: Sample) -> list[Event]:
    """New texts of the same pages."""
    pages = ("settled page 5", "settled in Cassandra", "deleted in Cassandra")
    return [later(sample.newest(page), f"The newest text: {page}.", +2) for page in pages]


def send(kafka: MockKafka, events: Iterable[Event]) -> None:
    for event in events:
        produce(kafka, TOPIC, event)
    kafka.flush()


def later(event: Event, text: str, seconds: int) -> Event:
    """An update of the same page in the same form."""
    value = json.loads(event.value) | {"op": "u"}
    if "source" in value:
        value["source"]["ts_us"] += seconds * 1_000_000
        value["after"]["body"] = {"value": text, "deletion_ts": None, "set": True}
    else:
        value["body"] = text
    timestamp_ms = event.timestamp_ms + seconds * 1000
    return replace(event, text=text, value=json.dumps(value), timestamp_ms=timestamp_ms)


# --- a store that is rejected


@pytest.mark.parametrize("step", ["kafka", "window", "stargate", "rag"])
def test_a_store_of_a_newer_layout_is_rejected_before_anything_is_read_or_committed(
    stream: Stream, sample: Sample, step: str
) -> None:
    add_to_layout(stream.store, f"pages.{step}", 1)
    before = snapshots(stream.store, sample.next_epoch)
    worker = resume(stream, sample, 4)
    assert worker.wait() == 1
    assert_rejected(worker)
    assert not {*stream.ollama.texts} & {event.text for event in sample.events}
    assert not stream.dead_letters()
    assert snapshots(stream.store, sample.next_epoch) == before
    assert not stream.kafka.committed(stream.topic, stream.group)
    assert not stream.stargate.vectors.history
    assert not stream.rag.stats.items


def test_a_store_that_was_rejected_can_be_finished_by_the_version_that_wrote_it(
    stream: Stream, sample: Sample
) -> None:
    add_to_layout(stream.store, "pages.window", 1)
    assert resume(stream, sample, 4).wait() == 1
    add_to_layout(stream.store, "pages.window", -1)
    worker = resume(stream, sample, 4)
    wait_finished(stream, sample)
    assert_finished(stream, sample)
    worker.stop()


def assert_rejected(worker: Worker) -> None:
    (line,) = [line for line in worker.log.splitlines() if "the recovery store has" in line]
    assert re.search(r"has layout \d+ .*, but this version needs \d+", line)
    assert "let the old version finish first, or remove the store" in line
    assert "Traceback" not in worker.log


def add_to_layout(store: Path, step: str, number: int) -> None:
    """Change the number of the layout in all snapshots of a step."""
    for file in partition_files(store):
        with closing(sqlite3.connect(file)) as database, database:
            found = database.execute(
                "SELECT rowid, ser_change FROM snaps WHERE step_id = ?", (step,)
            )
            changed = [(_with_layout(snapshot, number), row) for row, snapshot in found]
            database.executemany("UPDATE snaps SET ser_change = ? WHERE rowid = ?", changed)


def _with_layout(snapshot: bytes, number: int) -> bytes:
    """A snapshot, pickled by Bytewax and perhaps by its step before, with another layout."""
    state = pickle.loads(snapshot)
    if isinstance(state, bytes):
        return pickle.dumps(_with_layout(state, number))
    layout, *rest = state
    return pickle.dumps((layout + number, *rest))


def snapshots(store: Path, before: int) -> set[tuple[Any, ...]]:
    """The snapshots of all epochs before one."""
    query = "SELECT step_id, state_key, snap_epoch, ser_change FROM snaps WHERE snap_epoch < ?"
    found: set[tuple[Any, ...]] = set()
    for file in partition_files(store):
        with closing(sqlite3.connect(file)) as database:
            found |= set(database.execute(query, (before,)))
    return found
