"""Decides which dead letters a replay sends: those that are neither sent yet nor superseded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from confluent_kafka import Message

from connectors.core.records import Record
from connectors.kafka.messages import headers_of, record_of
from dataflow.events.decoder import decode
from dataflow.steps.changes import Change
from gibsey_embedder.dead_letters.reader import DeadLetter
from gibsey_embedder.topic.reader import TopicReader

FAILED_AT_HEADER = "gibsey-failed-at"
"""Header of a replayed record with the `failed-at` of its dead letter."""


@dataclass(slots=True)
class ReplayPlan:
    """The action of a replay for each dead letter.

    Attributes:
        send: Dead letters to send, in order.
        sent: Dead letters that an earlier replay sent.
        overtaken: Dead letters whose page has a newer event with another text in the topic.
        lost: Dead letters without a value whose original is no longer in the topic.
    """

    send: list[DeadLetter] = field(default_factory=list)
    sent: list[DeadLetter] = field(default_factory=list)
    overtaken: list[DeadLetter] = field(default_factory=list)
    lost: list[DeadLetter] = field(default_factory=list)


class _TopicScan:
    """The events in the topic that concern the dead letters, from one pass over the topic."""

    def __init__(self, dead_letters: Iterable[DeadLetter], *, delete_rows: bool) -> None:
        self._delete_rows = delete_rows
        self.newest: dict[str, Change | None] = {}
        self.replays: dict[str, str] = {}  # origin -> latest `failed-at` among the replays
        self.completed: dict[str, DeadLetter] = {}  # origin -> with the value from the topic
        self._without_value = {
            dead_letter.original.origin: dead_letter
            for dead_letter in dead_letters
            if dead_letter.original_size is not None
        }
        for dead_letter in dead_letters:
            if dead_letter.page_id:
                self.newest[dead_letter.page_id] = None

    def add(self, message: Message, topic: str) -> None:
        record = record_of(message, topic, 0)
        if record.replay_of is not None:
            failed_at = headers_of(message).get(FAILED_AT_HEADER, "")
            self.replays[record.replay_of] = max(failed_at, self.replays.get(record.replay_of, ""))
            return
        self._complete(record)
        change = decode(record)
        if not isinstance(change, Change) or change.page_id not in self.newest:
            return
        if change.is_blank and not self._delete_rows:
            return  # a delete without effect does not overtake
        known = self.newest[change.page_id]
        if known is None or change.version.compare(known.version) > 0:
            self.newest[change.page_id] = change

    def _complete(self, record: Record) -> None:
        """Add the value to a dead letter without one, unless the topic was created again."""
        dead_letter = self._without_value.get(record.origin)
        if (
            dead_letter is None
            or record.value is None
            or len(record.value) != dead_letter.original_size
        ):
            return
        if dead_letter.original.timestamp_ms not in (0, record.timestamp_ms):
            return
        original = replace(dead_letter.original, key=record.key, value=record.value)
        completed = self.completed[record.origin] = replace(dead_letter, original=original)
        if completed.page_id:
            self.newest.setdefault(completed.page_id, None)

    def overtakes(self, dead_letter: DeadLetter) -> bool:
        """Whether the page has a newer event with another text.

        The stream skips an event with the same text as unchanged, so it replaces nothing.
        """
        change = dead_letter.change
        newest = self.newest.get(change.page_id) if change else None
        if change is None or newest is None or newest.version.compare(change.version) <= 0:
            return False
        return not (newest.op == "u" and newest.body == change.body and not change.is_blank)


def plan_replay(
    dead_letters: list[DeadLetter],
    reader: TopicReader,
    topic: str,
    *,
    delete_rows: bool = True,
    on_read: Callable[[Message], None] = lambda _: None,
) -> ReplayPlan:
    """Read the topic from the oldest origin on, and decide for each dead letter.

    A replayed record has the `failed-at` of its dead letter. Dead letters with the same origin and
    an earlier or equal time were sent. If the event failed again, its dead letter has a later time.

    Args:
        dead_letters: Dead letters of `topic`, oldest first.
        reader: Reads the topic.
        topic: The topic of the changes.
        delete_rows: Whether the stream deletes the row of a deleted page (ON_DELETE).
        on_read: Called with each record of the topic.
    """
    ends = reader.ends(topic)
    scan = _TopicScan(dead_letters, delete_rows=delete_rows)
    for message in reader.read(topic, _starts(dead_letters, reader, topic, ends), ends):
        on_read(message)
        scan.add(message, topic)
    latest = {dead_letter.original.origin: dead_letter for dead_letter in dead_letters}
    plan = ReplayPlan()
    for dead_letter in latest.values():
        _decide(dead_letter, scan, plan)
    return plan


def _starts(
    dead_letters: list[DeadLetter],
    reader: TopicReader,
    topic: str,
    ends: Mapping[int, tuple[int, int]],
) -> dict[int, int]:
    """Return the first offset, by partition, at which a newer event of a page can be."""
    oldest = min((dead_letter.original.timestamp_ms for dead_letter in dead_letters), default=0)
    starts = reader.offsets_at(topic, list(ends), oldest)
    for dead_letter in dead_letters:
        partition, offset = dead_letter.original.partition, dead_letter.original.offset
        first, end = ends.get(partition, (0, 0))
        if offset >= end:  # the topic was created again, so any of its events may be newer
            offset = first
        starts[partition] = min(starts.get(partition, offset), offset)
    return starts


def _decide(dead_letter: DeadLetter, scan: _TopicScan, plan: ReplayPlan) -> None:
    origin = dead_letter.original.origin
    completed = dead_letter if dead_letter.original_size is None else scan.completed.get(origin)
    if scan.replays.get(origin, "") >= dead_letter.failed_at:
        plan.sent.append(dead_letter)
    elif completed is None:
        plan.lost.append(dead_letter)
    elif scan.overtakes(completed):
        plan.overtaken.append(dead_letter)
    else:
        plan.send.append(completed)
