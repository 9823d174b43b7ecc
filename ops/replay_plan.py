"""Which dead letters are to be sent again: not those that are settled or overtaken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from confluent_kafka import Message

from connectors.kafka_records import record_of
from dataflow.changes import Change
from dataflow.decode import decode
from ops.letters import Letter
from ops.topic_reader import TopicReader

FAILED_AT_HEADER = "gibsey-failed-at"
"""Header of a replayed record: the `failed-at` of its letter."""


@dataclass(slots=True)
class Plan:
    """What a replay does with each letter.

    Attributes:
        send: To be sent, in order.
        sent: Sent by an earlier replay.
        overtaken: Their page has a newer event in the topic.
        lost: Without a value, and the original is gone from the topic.
    """

    send: list[Letter] = field(default_factory=list)
    sent: list[Letter] = field(default_factory=list)
    overtaken: list[Letter] = field(default_factory=list)
    lost: list[Letter] = field(default_factory=list)


class _Topic:
    """What the topic holds beside the letters: one pass over it, memory only for the letters."""

    def __init__(self, letters: Iterable[Letter]) -> None:
        self.newest: dict[str, Change | None] = {}
        self.replays: dict[str, str] = {}  # origin -> when the latest replayed letter had failed
        self.values: dict[str, bytes | None] = {}
        for letter in letters:
            if letter.page_id:
                self.newest[letter.page_id] = None
            if letter.original_size is not None:
                self.values[letter.original.origin] = None

    def note(self, message: Message, topic: str) -> None:
        record = record_of(message, topic, 0)
        if record.replay_of is not None:
            failed_at = _failed_at(message)
            self.replays[record.replay_of] = max(failed_at, self.replays.get(record.replay_of, ""))
            return
        if record.origin in self.values:
            self.values[record.origin] = record.value
        change = decode(record)
        if not isinstance(change, Change) or change.page_id not in self.newest:
            return
        known = self.newest[change.page_id]
        if known is None or change.version.compare(known.version) > 0:
            self.newest[change.page_id] = change

    def overtakes(self, letter: Letter) -> bool:
        change = letter.change
        newest = self.newest.get(change.page_id) if change else None
        return newest is not None and newest.version.compare(change.version) > 0  # type: ignore[union-attr]


def make_plan(
    letters: list[Letter],
    reader: TopicReader,
    topic: str,
    on_read: Callable[[Message], None] = lambda _: None,
) -> Plan:
    """Look at the topic from the oldest origin on, and decide for each letter.

    A replayed record says when its letter had failed: letters of the same origin that failed no
    later have been sent, and what failed again left a later one.

    Args:
        letters: Letters of `topic`, oldest first.
        reader: Reads the topic.
        topic: The topic of the changes.
        on_read: Called with each record that was looked at.
    """
    ends = reader.ends(topic)
    seen = _Topic(letters)
    for message in reader.read(topic, _starts(letters, reader, topic, list(ends)), ends):
        on_read(message)
        seen.note(message, topic)
    latest = {letter.original.origin: letter for letter in letters}
    plan = Plan()
    for letter in latest.values():
        _decide(letter, seen, plan)
    return plan


def _starts(
    letters: list[Letter], reader: TopicReader, topic: str, partitions: list[int]
) -> dict[int, int]:
    """Where a newer event of some letter's page can be at the earliest, by partition."""
    oldest = min((letter.original.timestamp_ms for letter in letters), default=0)
    starts = reader.offsets_at(topic, partitions, oldest)
    for letter in letters:
        partition, offset = letter.original.partition, letter.original.offset
        starts[partition] = min(starts.get(partition, offset), offset)
    return starts


def _decide(letter: Letter, seen: _Topic, plan: Plan) -> None:
    origin = letter.original.origin
    if seen.replays.get(origin, "") >= letter.failed_at:
        plan.sent.append(letter)
    elif seen.overtakes(letter):
        plan.overtaken.append(letter)
    elif letter.original_size is None:
        plan.send.append(letter)
    elif (value := seen.values.get(origin)) is not None:
        plan.send.append(replace(letter, original=replace(letter.original, value=value)))
    else:
        plan.lost.append(letter)


def _failed_at(message: Message) -> str:
    headers = message.headers() or []
    for name, value in headers.items() if isinstance(headers, dict) else headers:
        if name == FAILED_AT_HEADER and isinstance(value, bytes):
            return value.decode(errors="replace")
    return ""
