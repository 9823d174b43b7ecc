"""A complete stream for tests: fakes, workers, and the expected content of the store."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from gibsey_embedder.fakes.kafka import Record
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from tests.eventually import eventually
from tests.flow.worker import SNAPSHOT_S, Worker, create_store, free_port

TOPIC = "cdc.pages"
DEAD_LETTER_TOPIC = "cdc.pages.dlq"
GROUP = "gibsey-embedder"
DONE_S = 60.0
TOLERANCE = 1e-6


@functools.lru_cache(10_000)
def expected_vector(text: str) -> list[float]:
    """Return the expected vector of a text, from a cache."""
    return embed_text(text)


def same(found: list[float] | None, text: str) -> bool:
    """Whether a vector is the expected one of a text."""
    if found is None:
        return False
    right = expected_vector(text)
    return len(found) == len(right) and all(
        abs(a - b) <= TOLERANCE for a, b in zip(found, right, strict=True)
    )


class Offsets(Protocol):
    """The end offsets of partitions, and the committed offsets of a group."""

    def ends(self, topic: str) -> dict[int, int]:
        """Return the end offset of each partition."""

    def committed(self, topic: str, group: str) -> dict[int, int]:
        """Return the committed offsets of a group, by partition."""


def wait_committed(kafka: Offsets, topic: str, group: str, within_s: float) -> None:
    """Wait until a group has committed the end of every partition."""

    def at_end() -> bool:
        committed = kafka.committed(topic, group)
        ends = kafka.ends(topic)  # read each time, because more records may arrive
        return all(committed.get(partition) == end for partition, end in ends.items() if end)

    eventually(at_end, within_s)


class Broker(Offsets, Protocol):
    """A Kafka for these tests: the fake, or a real one (`tests.real.kafka`).

    Attributes:
        broker: The address of the broker.
    """

    broker: str

    def produce(
        self,
        topic: str,
        key: str | bytes | None,
        value: str | bytes | None,
        *,
        partition: int | None,
    ) -> None:
        """Send one record; if the broker is down, send it later."""

    def flush(self, timeout_s: float = ...) -> None:
        """Wait until the broker has all records."""

    def read(self, topic: str) -> list[Record]:
        """Return all records of a topic."""

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Delete the records before an offset."""

    def down(self) -> None:
        """Stop the broker."""

    def up(self) -> None:
        """Start the broker again."""


class Stream:
    """Fakes on real sockets, the program, and the expected results.

    Attributes:
        texts: The newest text of each page; None for a deleted page.
        workers: All workers, in the order of their starts.
        topic: The topic of the changes.
        dead_letter_topic: The topic of the dead letters.
        group: The consumer group.
    """

    def __init__(
        self,
        directory: Path,
        kafka: Broker,
        ollama: Ollama,
        stargate: Stargate,
        rag: Rag,
        *,
        topic: str = TOPIC,
        dead_letter_topic: str = DEAD_LETTER_TOPIC,
        group: str = GROUP,
    ) -> None:
        self.directory = directory
        self.topic, self.dead_letter_topic, self.group = topic, dead_letter_topic, group
        self.kafka, self.ollama, self.stargate, self.rag = kafka, ollama, stargate, rag
        self.texts: dict[str, str | None] = {}
        self.workers: list[Worker] = []
        self._right: set[tuple[str, str]] = set()

    # --- workers

    def settings(self, **more: str) -> dict[str, str]:
        """Return the settings for the fakes."""
        return {
            "KAFKA_BROKER": self.kafka.broker,
            "KAFKA_TOPIC": self.topic,
            "KAFKA_GROUP": self.group,
            "DEAD_LETTER_TOPIC": self.dead_letter_topic,
            "KAFKA_OPTIONS": '{"fetch.wait.max.ms": 5}',
            "EMBED_URL": self.ollama.embed_url,
            "STARGATE_URL": self.stargate.url,
            "STARGATE_AUTH_TOKEN": TOKEN,
            "RAG_REFRESH_URL": self.rag.refresh_url,
            "STATUS_PORT": str(free_port()),
            **more,
        }

    @property
    def store(self) -> Path:
        """The recovery store, which the first use creates."""
        directory = self.directory / "recovery"
        return directory if directory.is_dir() else create_store(directory)

    def start(
        self,
        workers: int = 1,
        *,
        store: bool = True,
        arguments: Iterable[str] = (),
        code: str = "",
        **settings: str,
    ) -> Worker:
        """Start the program."""
        given = ["-w", str(workers), *arguments]
        if store:
            given += ["-r", str(self.store), "-s", str(SNAPSHOT_S), "-b", "0"]
        worker = Worker(self.directory, self.settings(**settings), given, code=code)
        self.workers.append(worker)
        return worker

    def start_cluster(self, processes: int = 2, workers: int = 2, **settings: Any) -> list[Worker]:
        """Start the program as several processes."""
        addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(processes))
        settings = {"STATUS_PORT": "0", **settings}
        return [
            self.start(workers, arguments=["-i", str(number), "-a", addresses], **settings)
            for number in range(processes)
        ]

    def kill_all(self) -> None:
        """Kill all running workers."""
        for worker in self.workers:
            if worker.is_running:
                worker.kill()

    def end(self) -> None:
        """Kill all running workers, and print all logs for a failed test."""
        self.kill_all()
        for number, worker in enumerate(self.workers):
            print(f"--- worker {number}", worker.log, sep="\n")

    # --- changes

    def write(self, page_id: str, text: str, op: str = "u") -> None:
        """Create or update a page."""
        self.texts[page_id] = text
        self.send(page_id, {"page_id": page_id, "body": text, "op": op})

    def delete(self, page_id: str) -> None:
        """Delete a page."""
        self.texts[page_id] = None
        self.send(page_id, {"page_id": page_id, "op": "d"})

    def feed(self, count: int, start: int = 0) -> None:
        """Create pages `page start` to `page start+count-1`, each with its own text."""
        for number in range(start, start + count):
            self.write(f"page {number}", f"the text of page number {number}", "c")
        self.kafka.flush()

    def raw(self, value: bytes | None, key: bytes | None = None, partition: int = 0) -> None:
        """Send an event unchanged."""
        self.kafka.produce(self.topic, key, value, partition=partition)

    def send(self, page_id: str, event: object, partition: int | None = None) -> None:
        """Send an event; by default to the partition of its page."""
        self.kafka.produce(self.topic, page_id, json.dumps(event), partition=partition)

    # --- results

    def missing(self, *, deletes: bool = False) -> list[str]:
        """Return the problems of the store and of the notifications; empty without problems.

        Args:
            deletes: Whether rows of deleted pages must be gone (ON_DELETE=delete).
        """
        return [
            fault
            for page_id, text in self.texts.items()
            for fault in self._problems_of(page_id, text, deletes)
        ]

    def _problems_of(self, page_id: str, text: str | None, deletes: bool) -> Iterable[str]:
        if text is None:
            if deletes and page_id in self.stargate.vectors.rows:
                yield f"{page_id}: its row is still there"
            return
        row = self.stargate.vectors.rows.get(page_id, b"").decode()
        if not self._is_right(row, text, lambda: self.stargate.vectors.vector(page_id)):
            yield f"{page_id}: {'another vector' if row else 'no row'}"
        key = f"{page_id}, notified {self.rag.counts[page_id]} times"
        if not self._is_right(key, text, lambda: self.rag.vector(page_id)):
            yield f"{page_id}: not notified of its last vector"

    def _is_right(self, state: str, text: str, vector: Callable[[], list[float] | None]) -> bool:
        """Whether the row has the vector of a text; the result is cached."""
        if (state, text) in self._right:
            return True
        is_right = same(vector(), text)
        if is_right:
            self._right.add((state, text))
        return is_right

    def wait_complete(self, within_s: float = DONE_S, *, deletes: bool = False) -> None:
        """Wait until the store and the notifications are complete.

        Raises:
            AssertionError: With what is missing at the timeout.
        """
        give_up = time.monotonic() + within_s
        while True:
            can_change = any(worker.is_running for worker in self.workers)
            if not (missing := self.missing(deletes=deletes)):
                return
            found = f"{len(missing)} problems in {len(self.texts)} pages: {missing[:5]}"
            assert can_change, f"no worker runs; {found}"
            assert time.monotonic() < give_up, found
            time.sleep(0.02)

    def wait_rows(self, count: int, within_s: float = DONE_S) -> None:
        """Wait until the store has this number of rows."""
        vectors = self.stargate.vectors
        eventually(lambda: len(vectors.rows) >= count or not self.workers[-1].is_running, within_s)
        assert len(vectors.rows) >= count, "the worker has ended"

    def wait_committed(self, within_s: float = DONE_S) -> None:
        """Wait until the group has committed the end of every partition."""
        wait_committed(self.kafka, self.topic, self.group, within_s)

    def dead_letters(self) -> list[Record]:
        """Return all dead letters."""
        return self.kafka.read(self.dead_letter_topic)

    def wait_dead_letters(self, count: int, within_s: float = DONE_S) -> list[Record]:
        """Wait until there are this number of dead letters."""
        return eventually(
            lambda: found if len(found := self.dead_letters()) >= count else [], within_s
        )

    def embedded(self) -> Counter[str]:
        """Return how often each page's text was embedded, without the program's own texts."""
        sent = Counter(self.ollama.texts or ())
        wanted = {text for text in self.texts.values() if text}
        return Counter({text: count for text, count in sent.items() if text in wanted})
