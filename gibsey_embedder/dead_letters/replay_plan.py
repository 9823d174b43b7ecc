"""Which dead letters are to be sent again: not those that are settled or overtaken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from confluent_kafka import Message

from connectors.core.records import Record
from connectors.kafka.messages import headers_of, record_of
from dataflow.events.decoder import decode
from dataflow.steps.changes import Change
from gibsey_embedder.dead_letters.reader import Letter
from gibsey_embedder.topic.reader import TopicReader

FAILED_AT_HEADER = "gibsey-failed-at"
"""Header of a replayed record: the `failed-at` of its letter."""


@dataclass(slots=True)
class Plan:
    """What a replay does with each letter.

    Attributes:
        send: To be sent, in order.
        sent: Sent by an earlier replay.
        overtaken: Their page has a newer event in the topic, and not one of the same text.
        lost: Without a value, and the original is gone from the topic.
    """

    send: list[Letter] = field(default_factory=list)
    sent: list[Letter] = field(default_factory=list)
    overtaken: list[Letter] = field(default_factory=list)
    lost: list[Letter] = field(default_factory=list)


class _Topic:
    """What the topic holds beside the letters: one pass over it, memory only for the letters."""

    def __init__(self, letters: Iterable[Letter], *, delete_rows: bool) -> None:
        self._delete_rows = delete_rows
        self.newest: dict[str, Change | None] = {}
        self.replays: dict[str, str] = {}  # origin -> when the latest replayed letter had failed
        self.whole: dict[str, Letter] = {}  # by origin, those whose value was found in the topic
        self._without_value = {
            letter.original.origin: letter for letter in letters if letter.original_size is not None
        }
        for letter in letters:
            if letter.page_id:
                self.newest[letter.page_id] = None

    def note(self, message: Message, topic: str) -> None:
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
            return  # it has no effect, and so does not overtake
        known = self.newest[change.page_id]
        if known is None or change.version.compare(known.version) > 0:
            self.newest[change.page_id] = change

    def _complete(self, record: Record) -> None:
        """Take the value for a letter that lacks it; in a topic made anew it is another one's."""
        letter = self._without_value.get(record.origin)
        if letter is None or record.value is None or len(record.value) != letter.original_size:
            return
        if letter.original.timestamp_ms not in (0, record.timestamp_ms):
            return
        original = replace(letter.original, key=record.key, value=record.value)
        whole = self.whole[record.origin] = replace(letter, original=original)
        if whole.page_id:
            self.newest.setdefault(whole.page_id, None)

    def overtakes(self, letter: Letter) -> bool:
        """Whether the page has a newer event.

        One that brought the same text once more was skipped as unchanged, and replaces nothing.
        """
        change = letter.change
        newest = self.newest.get(change.page_id) if change else None
        if change is None or newest is None or newest.version.compare(change.version) <= 0:
            return False
        return not (newest.op == "u" and newest.body == change.body and not change.is_blank)


def make_plan(
    letters: list[Letter],
    reader: TopicReader,
    topic: str,
    *,
    delete_rows: bool = True,
    on_read: Callable[[Message], None] = lambda _: None,
) -> Plan:
    """Look at the topic from the oldest origin on, and decide for each letter.

    A replayed record says when its letter had failed: letters of the same origin that failed no
    later have been sent, and what failed again left a later one.

    Args:
        letters: Letters of `topic`, oldest first.
        reader: Reads the topic.
        topic: The topic of the changes.
        delete_rows: Whether a deleted page's row is removed (ON_DELETE).
        on_read: Called with each record that was looked at.
    """
    ends = reader.ends(topic)
    seen = _Topic(letters, delete_rows=delete_rows)
    for message in reader.read(topic, _starts(letters, reader, topic, ends), ends):
        on_read(message)
        seen.note(message, topic)
    latest = {letter.original.origin: letter for letter in letters}
    plan = Plan()
    for letter in latest.values():
        _decide(letter, seen, plan)
    return plan


def _starts(
    letters: list[Letter], reader: TopicReader, topic: str, ends: Mapping[int, tuple[int, int]]
) -> dict[int, int]:
    """Where a newer event of some letter's page can be at the earliest, by partition."""
    oldest = min((letter.original.timestamp_ms for letter in letters), default=0)
    starts = reader.offsets_at(topic, list(ends), oldest)
    for letter in letters:
        partition, offset = letter.original.partition, letter.original.offset
        first, end = ends.get(partition, (0, 0))
        if offset >= end:  # the topic was made anew: any of its events may be newer
            offset = first
        starts[partition] = min(starts.get(partition, offset), offset)
    return starts


def _decide(letter: Letter, seen: _Topic, plan: Plan) -> None:
    origin = letter.original.origin
    whole = letter if letter.original_size is None else seen.whole.get(origin)
    if seen.replays.get(origin, "") >= letter.failed_at:
        plan.sent.append(letter)
    elif whole is None:
        plan.lost.append(letter)
    elif seen.overtakes(whole):
        plan.overtaken.append(letter)
    else:
        plan.send.append(whole)
