"""Random histories of pages, compared with a simple model: each page's newest change wins.

A history writes pages, and publishes their events as Kafka and Debezium may do: late, repeated, in
any partition, a batch as two events of one time. It runs decode, filter and window over them, with
an embedder that responds in any order and a store that rejects a row. It creates the topic again,
and ends the process at any moment, which then resumes from its last snapshot. In the end it replays
all dead letters, and every page must be right.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.core.records import DeadLetter, Outcome, PageVector, Record
from connectors.runtime.shutdown import Shutdown
from dataflow.events.decoder import decode
from dataflow.steps.changes import Change
from dataflow.steps.filter import Filter
from tests.dataflow.steps.manual_window import ManualWindow

T = TypeVar("T")

PARTITIONS = (0, 1)
FLAT = ("f0", "f1")  # by partition: a producer's key keeps a page in one partition
DEBEZIUM = ("d0", "d1")
PAGES = FLAT + DEBEZIUM

WISHES = [("c", "one"), ("c", "two"), ("c", "bad"), ("u", "one"), ("u", "two"), ("u", "bad")]
WISHES += [("d", None), ("d", None), ("u", ""), ("u", " "), ("touch", None), ("tombstone", None)]
WISHES += [
    ("replace", "one"),
    ("replace", "two"),
]  # a batch that deletes the row and writes it again

ACTIONS = ["write"] * 4 + ["publish"] * 3 + ["publish again"] * 1 + ["read"] * 6 + ["send"] * 4
ACTIONS += ["embed"] * 5 + ["emit"] * 3 + ["close epoch"] * 3 + ["kill"] * 2 + ["replay"] * 2
ACTIONS += ["repair the embedder", "create the topic again"] + ["refuse a row"] * 3

histories = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 2**16)), min_size=40, max_size=150
)


@dataclass(frozen=True)
class Write:
    """A write of the database, or of the writer of flat events."""

    page: str
    op: str
    text: str | None
    at: int


@dataclass(frozen=True)
class Snapshot:
    """What a restart resumes from."""

    window: bytes | None
    positions: dict[int, int]
    era: int = 0


class Stream:
    """The stream with its topic and its store.

    Args:
        delete_rows: As ON_DELETE=delete.
    """

    def __init__(self, delete_rows: bool) -> None:
        self.delete_rows = delete_rows
        self.writes: list[Write] = []
        self.unpublished: list[Write] = []
        self.published: list[Write] = []
        self.topic: dict[int, list[Record]] = {partition: [] for partition in PARTITIONS}
        self.store: dict[str, str] = {}
        self.dead_letters: list[Record] = []
        self.is_repaired = False
        self.refusing = 0
        self.era = 0
        self.kept = Snapshot(None, dict.fromkeys(PARTITIONS, 0))
        self.start()

    def start(self) -> None:
        """Start a process from the last snapshot."""
        self.window = ManualWindow(delete_rows=self.delete_rows, snapshot=self.kept.window)
        self.filter = Filter(self.window.tracker, self.window.metrics, Shutdown())
        is_same = self.kept.era == self.era
        self.positions = dict(self.kept.positions) if is_same else dict.fromkeys(PARTITIONS, 0)
        self.on_the_way: list[Outcome] = []
        self.emitted: dict[str, Change] = {}
        self.taken = sum(self.window.counts().values()) + self.window.tracker.open_pages

    def act(self, action: str, number: int) -> None:
        """Do one action; `number` decides the details."""
        if action in ("publish", "publish again", "embed", "replay"):
            self._act_on_one_of_many(action, number)
        elif action == "write":
            self.write(_pick(PAGES, number), *_pick(WISHES, number // 4))
        elif action == "repair the embedder":
            self.is_repaired = True
        elif action == "refuse a row":
            self.refusing += 1
        elif action == "create the topic again":
            self.create_topic_again()
        elif action == "read":
            self.read(PARTITIONS[number % 2], 1 + number // 2 % 3)
        elif action == "send":
            self.window.batcher.send(1 + number % 2)
        elif action == "emit":
            self.emit(self.window.emitted())
        elif action == "close epoch":
            self.close_epoch()
        else:
            self.deliver(number % (len(self.on_the_way) + 1))
            self.start()

    def _act_on_one_of_many(self, action: str, number: int) -> None:
        in_flight = self.window.batcher.in_flight
        repeats = [w for w in self.published if w.page in DEBEZIUM]
        if action == "publish" and self.unpublished:
            write = self.unpublished.pop(number // 2 % len(self.unpublished))
            self.publish(write, PARTITIONS[number % 2])
        elif action == "publish again" and repeats:
            self.publish(_pick(repeats, number // 2), PARTITIONS[number % 2])
        elif action == "embed" and in_flight:
            self.window.batcher.embed(_pick(in_flight, number), is_repaired=self.is_repaired)
        elif action == "replay" and self.dead_letters:
            self.replay(_pick(self.dead_letters, number))

    def write(self, page: str, op: str, text: str | None) -> None:
        at = len(self.writes) + 1
        events = [Write(page, op, text, at)]
        if op == "again":
            events = [Write(page, "u", self._text_of(page), at)]
        if op == "replace":
            events = [Write(page, "d", None, at), Write(page, "u", text, at)]
        self.writes += events
        for event in events:
            if page in FLAT:
                self.publish(event, FLAT.index(page))
            else:
                self.unpublished.append(event)

    def _text_of(self, page: str) -> str:
        newest = self.newest(page)
        return (newest and newest.text) or "one"

    def publish(self, write: Write, partition: int) -> None:
        log = self.topic[partition]
        key, value = json.dumps({"page_id": write.page}).encode(), _value(write)
        time_ms = 1000 + write.at
        log.append(Record("cdc.pages", partition, len(log), time_ms, key, value, self.era))
        self.published.append(write)

    def replay(self, dead_letter: Record) -> None:
        log = self.topic[dead_letter.partition]
        origin = dead_letter.replay_of or dead_letter.origin
        log.append(replace(dead_letter, offset=len(log), replay_of=origin))

    def read(self, partition: int, count: int) -> None:
        start = self.positions[partition]
        records = self.topic[partition][start : start + count]
        self.positions[partition] += len(records)
        self.window.tracker.open(records)
        self.window.tracker.read_up_to(partition, self.positions[partition])
        self.taken += len(records)
        groups = [changes for _, changes in self.filter([decode(r) for r in records])]
        if groups:
            self.emit(list(chain.from_iterable(self.window.logic.on_batch(groups)[0])))

    def emit(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            change = decode(outcome.record)
            assert isinstance(change, Change)
            before = self.emitted.get(change.page_id)
            if before is not None and change.version.compare(before.version) < 0:
                assert change.is_replay, "went backwards"
                assert change.body == before.body, "went back to another text"
            else:
                self.emitted[change.page_id] = change
            self.on_the_way.append(outcome)

    def deliver(self, count: int) -> None:
        """Deliver the first `count` outcomes to the store and the dead letters."""
        for outcome in self.on_the_way[:count]:
            if isinstance(outcome, DeadLetter):
                self.dead_letters.append(outcome.record)
            elif self.refusing and outcome.vector is not None:
                self.refusing -= 1
                self.dead_letters.append(outcome.record)
            elif outcome.vector is None:
                self.store.pop(outcome.page_id, None)
            else:
                self.store[outcome.page_id] = outcome.vector.decode()[1:-1]
            while not self.window.tracker.settle(outcome.record):
                assert isinstance(outcome, PageVector)
        del self.on_the_way[:count]

    def close_epoch(self) -> None:
        self.deliver(len(self.on_the_way))
        self.kept = Snapshot(self.window.logic.snapshot(), dict(self.positions), self.era)

    def create_topic_again(self) -> None:
        """Finish the topic, delete it and create it again; writes continue."""
        self.settle()
        self.close_epoch()
        self.era += 1
        self.topic = {partition: [] for partition in PARTITIONS}
        self.start()

    def settle(self) -> None:
        """Read, embed and deliver everything, including a replay of every dead letter."""
        self.is_repaired, self.refusing = True, 0
        self.drain()
        while self.dead_letters:
            for dead_letter in self.dead_letters[:]:
                self.dead_letters.remove(dead_letter)
                self.replay(dead_letter)
            self.drain()

    def drain(self) -> None:
        """Read, embed and deliver everything."""
        for partition in PARTITIONS:
            self.read(partition, len(self.topic[partition]) + 1)
        self.emit(self.window.finished(is_repaired=self.is_repaired))
        self.deliver(len(self.on_the_way))

    def finish(self) -> None:
        """Publish and settle everything."""
        while self.unpublished:
            self.publish(self.unpublished.pop(), 0)
        self.settle()

    def newest(self, page: str) -> Write | None:
        """Return the write that the store must show: the model of the test."""
        found = [w for w in self.writes if w.page == page and w.op in ("c", "u", "d")]
        if not self.delete_rows:
            found = [w for w in found if (w.text or "").strip()]
        return found[-1] if found else None


def _pick(choices: Sequence[T], number: int) -> T:
    return choices[number % len(choices)]


def _value(write: Write) -> bytes | None:
    if write.op == "tombstone":
        return None
    if write.page in FLAT:
        event: dict[str, object] = {"page_id": write.page, "op": write.op, "body": write.text}
        if write.op == "touch":
            event = {"page_id": write.page, "op": "u"}
        return json.dumps(event).encode()
    cell = {"value": write.text, "deletion_ts": None, "set": True}
    after = {"page_id": {"value": write.page}, "body": None if write.op == "touch" else cell}
    op = {"c": "i", "touch": "u"}.get(write.op, write.op)
    return json.dumps({"op": op, "source": {"ts_us": write.at}, "after": after}).encode()


@pytest.mark.timeout(420)  # hypothesis shortens a failing history for minutes
@settings(max_examples=200, deadline=None)
@given(histories, st.booleans())
def test_whatever_happens_the_newest_change_of_each_page_is_what_the_store_holds(
    history, delete_rows
):
    stream = Stream(delete_rows)
    for action, number in history:
        stream.act(action, number)
    stream.finish()
    for page in PAGES:
        newest = stream.newest(page)
        if newest is None or not (newest.text or "").strip():
            assert page not in stream.store
        else:
            assert stream.store.get(page) == newest.text


@settings(max_examples=50, deadline=None)
@given(histories, st.booleans())
def test_whatever_happens_every_event_is_counted_once_and_settled(history, delete_rows):
    stream = Stream(delete_rows)
    for action, number in history:
        stream.act(action, number)
        counted = sum(stream.window.counts().values())
        assert counted + sum(map(len, stream.window.logic._open.values())) == stream.taken
    stream.finish()
    assert stream.window.tracker.open_pages == 0
    marks = stream.window.tracker.low_watermarks()
    assert marks == {partition: len(log) for partition, log in stream.topic.items()}
