"""A recovery store of an older version, and the topic of its events."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gibsey_embedder.fakes.kafka import MockKafka

EXPECTED = "expected.json"
STORE = "store"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the topic, and its state in the store.

    Attributes:
        state: `settled`, `unsettled` (in the snapshot of an output), `open` (in the snapshot of
            the window) or `uncommitted` (at or after the stored position of its partition).
        awaits: What a worker that resumes must do for it: `embed`, `store`, `notify`, `remove`,
            or the reason of a dead letter.
        page_id: The page; None where the event cannot be decoded.
        text: The text of the page; None where it has none.
        partition: Its partition.
        offset: Its offset.
        timestamp_ms: Its timestamp (milliseconds since 1970).
        key: Its key.
        value: Its value.
        headers: Its headers.
    """

    state: str
    awaits: tuple[str, ...]
    page_id: str | None
    text: str | None
    partition: int
    offset: int
    timestamp_ms: int
    key: str
    value: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> tuple[int, int]:
        """The partition and offset."""
        return self.partition, self.offset


@dataclass(frozen=True, slots=True)
class Sample:
    """A recovery store with its topic.

    Attributes:
        version: The version that wrote the store.
        workers: Number of worker threads of that version.
        settings: The settings, without the addresses of the services.
        next_epoch: The resume epoch; all earlier epochs are committed.
        topic: The topic.
        partitions: Number of partitions of the topic.
        events: All events of the topic, in the order in which they were produced.
        vectors: The vectors of long pages, as that version stored them: by page.
    """

    version: str
    workers: int
    settings: dict[str, str]
    next_epoch: int
    topic: str
    partitions: int
    events: list[Event]
    vectors: dict[str, list[float]]

    @classmethod
    def load(cls, directory: Path) -> Sample:
        """Read `expected.json`."""
        found = json.loads((directory / EXPECTED).read_text(encoding="utf-8"))
        for event in found["events"]:
            event["awaits"] = tuple(event["awaits"])
        return cls(**found | {"events": [Event(**event) for event in found["events"]]})

    def save(self, directory: Path) -> None:
        """Write `expected.json`, with one event per line."""
        plain = dataclasses.asdict(self)
        lines = [json.dumps(event) for event in plain.pop("events")]
        vectors = [
            f"{json.dumps(page)}: {json.dumps(v)}" for page, v in plain.pop("vectors").items()
        ]
        head = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in plain.items()]
        text = '{{\n{},\n"events": [\n{}\n],\n"vectors": {{\n{}\n}}\n}}\n'.format(
            *map(",\n".join, (head, lines, vectors))
        )
        (directory / EXPECTED).write_text(text, encoding="utf-8")

    def produce(self, kafka: MockKafka) -> None:
        """Produce all events, each to its partition and at its offset."""
        for event in self.events:
            produce(kafka, self.topic, event)
        kafka.flush()
        assert kafka.ends(self.topic) == Counter(event.partition for event in self.events)

    def awaiting(self, what: str) -> list[Event]:
        """Return the events with remaining work."""
        return [event for event in self.events if what in event.awaits]

    def newest(self, page_id: str) -> Event:
        """Return the last event of a page."""
        return [event for event in self.events if event.page_id == page_id][-1]

    def stored_texts(self) -> dict[str, str]:
        """Return the texts of the rows that were stored before the kill, by page."""
        texts: dict[str, str] = {}
        for event in self.events:
            if event.page_id is None or event.state not in ("settled", "unsettled"):
                continue
            if event.text is None and "remove" not in event.awaits:
                texts.pop(event.page_id)
            elif event.text is not None and "store" not in event.awaits:
                texts[event.page_id] = event.text
        return texts


def produce(kafka: MockKafka, topic: str, event: Event) -> None:
    """Produce one event."""
    kafka.produce(
        topic,
        event.key,
        event.value,
        partition=event.partition,
        timestamp_ms=event.timestamp_ms,
        headers=[(name, value.encode()) for name, value in event.headers.items()],
    )


def copy_store(sample: Path, directory: Path) -> None:
    """Copy the store of a sample, because no worker may change the original."""
    directory.mkdir()
    for file in partition_files(sample / STORE):
        shutil.copy(file, directory)


def partition_files(store: Path) -> Iterable[Path]:
    """Return the files of a recovery store."""
    return sorted(store.glob("part-*.sqlite3"))
