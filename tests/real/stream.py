"""The real program between a real Kafka and a real Ollama, with fakes of the other services."""

from __future__ import annotations

import json
import math
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from tests.eventually import eventually
from tests.flow.stream import wait_committed
from tests.flow.worker import BYTEWAX_RUN, Worker, create_store, free_port
from tests.real.kafka import KafkaContents

PARTITIONS = 3
SNAPSHOT_S = 2
ANSWER_S = 60.0
DONE_S = 90.0
NEAR = 0.01
"""Vectors of one text differ by rounding from batch to batch; of two texts by tenths."""
ASKED_AT_ONCE = 32


class Topic:
    """A topic of its own on a real Kafka, and the one for its dead letters.

    Args:
        broker: The broker's address.
        name: The topic's name; None takes a new one.

    Attributes:
        contents: What is in the broker.
    """

    def __init__(self, broker: str, name: str | None = None) -> None:
        self.broker = broker
        self.name = name or f"test.pages.{uuid.uuid4().hex[:12]}"
        self.letters = f"test.letters.{uuid.uuid4().hex[:12]}"
        self._config: dict[str, str | int | float | bool] = {
            "bootstrap.servers": broker,
            "log_level": 0,  # a broker that is away on purpose is not worth a line
        }
        self._admin = AdminClient(self._config)
        self._producer = self._new_producer()
        self.contents = KafkaContents(broker)

    def make(self, partitions: int = PARTITIONS) -> None:
        """Make it."""
        self._make(self.name, partitions)

    def make_letters(self) -> None:
        """Make the one for the dead letters."""
        self._make(self.letters, 1)

    def widen(self, partitions: int) -> None:
        """Add partitions, up to a number."""
        order = [NewPartitions(self.name, partitions)]
        for done in self._admin.create_partitions(order).values():
            done.result(ANSWER_S)
        self.flush()
        self._producer = self._new_producer()  # the old one knows of them minutes later

    def remove(self, names: Iterable[str] | None = None) -> None:
        """Delete both, as far as they are there."""
        there = self._admin.list_topics(timeout=ANSWER_S).topics
        wanted = [name for name in names or (self.name, self.letters) if name in there]
        if wanted:
            for done in self._admin.delete_topics(wanted).values():
                done.result(ANSWER_S)

    def send(self, key: str, event: object, partition: int = -1) -> None:
        """Send an event as JSON; sent later where the broker is away."""
        self._producer.produce(self.name, json.dumps(event), key, partition)
        self._producer.poll(0)

    def flush(self, within_s: float = ANSWER_S) -> None:
        """Wait until the broker has all that was sent."""
        assert self._producer.flush(within_s) == 0, "the broker did not take all events"

    def read_letters(self) -> list[tuple[str, dict[str, object]]]:
        """Each dead letter's reason, and its event."""
        letters = self.contents.read(self.letters)
        return [(r.headers["reason"].decode(), json.loads(r.value or b"{}")) for r in letters]

    def read(self) -> list[dict[str, Any]]:
        """The events in the topic that are JSON objects."""
        events = (json.loads(record.value or b"null") for record in self.contents.read(self.name))
        return [event for event in events if isinstance(event, dict)]

    def _new_producer(self) -> Producer:
        return Producer({**self._config, "enable.idempotence": True, "message.timeout.ms": 0})

    def _make(self, name: str, partitions: int) -> None:
        for done in self._admin.create_topics([NewTopic(name, partitions, 1)]).values():
            done.result(ANSWER_S)


class Embedder:
    """What the real Ollama answers, to compare with.

    Args:
        url: EMBED_URL of the worker.
        model: The model.
    """

    def __init__(self, url: str, model: str) -> None:
        self.url, self.model = url, model
        self.root = url.partition("/api/")[0]
        self._known: dict[str, list[float]] = {}

    def learn(self, texts: Iterable[str]) -> None:
        """Ask for the vectors that are not known yet."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for at in range(0, len(new), ASKED_AT_ONCE):
            part = new[at : at + ASKED_AT_ONCE]
            sent = [text.lower() for text in part] if self._loses_capitals else part
            self._known.update(zip(part, self._ask(sent), strict=True))

    @cached_property
    def _loses_capitals(self) -> bool:
        """Whether it takes all words with capitals for the same (0.24): the program lowers them."""
        return math.dist(*self._ask(["Tiger", "Marble"])) < NEAR

    def _ask(self, texts: Sequence[str]) -> list[list[float]]:
        order = {"model": self.model, "input": texts}
        answer = httpx.post(f"{self.root}/api/embed", json=order, timeout=ANSWER_S)
        found: list[list[float]] = answer.raise_for_status().json()["embeddings"]
        return found

    def is_right(self, vector: Sequence[float] | None, text: str) -> bool:
        """Whether a vector is the text's."""
        right = self._known[text]
        return vector is not None and len(vector) == len(right) and math.dist(vector, right) < NEAR

    def copy(self, name: str) -> None:
        """Make a model of another name."""
        order = {"source": self.model, "destination": name}
        httpx.post(f"{self.root}/api/copy", json=order, timeout=ANSWER_S).raise_for_status()

    def remove(self, name: str) -> None:
        """Delete a model, if it is there."""
        httpx.request("DELETE", f"{self.root}/api/delete", json={"model": name}, timeout=ANSWER_S)


class RealStream:
    """Workers, what was sent to them, and what must come of it.

    Attributes:
        texts: The newest text of each page; None where it must have no row.
    """

    def __init__(
        self, directory: Path, topic: Topic, embedder: Embedder, stargate: Stargate, rag: Rag
    ) -> None:
        self.topic, self.embedder, self.stargate, self.rag = topic, embedder, stargate, rag
        self.texts: dict[str, str | None] = {}
        self._directory = directory
        self._group = f"test-{uuid.uuid4().hex[:12]}"
        self._workers: list[Worker] = []

    def start(self, workers: int = 2, **settings: str) -> Worker:
        """Start the program on this stream's recovery store."""
        store = self._directory / "recovery"
        if not store.exists():
            create_store(store)
        options = ["-w", str(workers), "-r", str(store), "-s", str(SNAPSHOT_S), "-b", "0"]
        return self._start(settings, options)

    def start_pods(self, count: int, workers: int = 2, **settings: str) -> list[Worker]:
        """Start a cluster as in Kubernetes: by pod names, with a directory each.

        All are on this machine, so each has a status port of its own: the first one and up.
        """
        hosts = self._directory / f"hosts-{uuid.uuid4().hex[:8]}"
        hosts.write_text("".join(f"127.0.0.1:{free_port()}\n" for _ in range(count)))
        settings |= {
            "BYTEWAX_STATEFULSET_NAME": "pages",
            "BYTEWAX_HOSTFILE_PATH": str(hosts),
            "STATUS_PORT": str(free_port(count)),
            "WORKERS": str(workers),
            "SNAPSHOT_SECONDS": str(SNAPSHOT_S),
        }
        pods = []
        for number in range(count):
            own = {
                "BYTEWAX_POD_NAME": f"pages-{number}",
                "RECOVERY_DIR": str(self.recovery_dir(number)),
            }
            pods.append(self._start(settings | own, program=("-m", "gibsey_embedder.cli", "run")))
            pods[-1].status_port += number
        return pods

    def recovery_dir(self, pod: int) -> Path:
        """Where a pod keeps what it has of the recovery store."""
        return self._directory / f"volume-{pod}" / "recovery"

    @property
    def settings(self) -> dict[str, str]:
        """Settings that lead to the services."""
        return {
            "KAFKA_BROKER": self.topic.broker,
            "KAFKA_TOPIC": self.topic.name,
            "KAFKA_GROUP": self._group,
            "DEAD_LETTER_TOPIC": self.topic.letters,
            "EMBED_URL": self.embedder.url,
            "EMBED_MODEL": self.embedder.model,
            "STARGATE_URL": self.stargate.url,
            "STARGATE_AUTH_TOKEN": TOKEN,
            "RAG_REFRESH_URL": self.rag.refresh_url,
            "STATUS_PORT": str(free_port()),
            "RECOVERY_DIR": str(self._directory / "recovery"),
        }

    def _start(
        self,
        settings: Mapping[str, str],
        options: Sequence[str] = (),
        program: Sequence[str] = BYTEWAX_RUN,
    ) -> Worker:
        worker = Worker(self._directory, {**self.settings, **settings}, options, program=program)
        self._workers.append(worker)
        return worker

    def end(self) -> None:
        """Kill what still runs, and show every log for a test that failed."""
        for number, worker in enumerate(self._workers):
            if worker.is_running:
                worker.kill()
            print(f"--- worker {number}", worker.log, sep="\n")

    def write(self, page_id: str, text: str, op: str = "u", partition: int = -1) -> None:
        """Create or update a page."""
        self.texts[page_id] = text
        event = {"page_id": page_id, "body": text, "op": op}
        self.topic.send(page_id, event, partition)

    def feed(self, numbers: Iterable[int], text: str = "what page {} says") -> None:
        """Write pages, each with a text of its own."""
        for number in numbers:
            self.write(f"page {number}", text.format(number))

    def wait_stalled(self, worker: Worker, service: str, within_s: float = ANSWER_S) -> None:
        """Wait until the status port reports that the stream waits for a service."""
        worker.wait_for("status port")
        eventually(lambda: service in worker.stalled(), within_s)

    @property
    def rows(self) -> int:
        """Rows in the store."""
        return len(self.stargate.vectors.rows)

    def wait_rows(self, count: int, within_s: float = DONE_S) -> None:
        """Wait until there are so many rows."""
        assert self.stargate.vectors.wait_for(count, within_s), f"{self.rows} rows of {count}"

    def missing(self) -> Iterator[str]:
        """What is wrong in the store, in words."""
        for page_id, text in self.texts.items():
            vector = self.stargate.vectors.vector(page_id)
            if text is None:
                if vector is not None:
                    yield f"{page_id}: its row is still there"
            elif not self.embedder.is_right(vector, text):
                yield f"{page_id}: {'no row' if vector is None else 'another vector'}"
            elif not self.embedder.is_right(self.rag.vector(page_id), text):
                yield f"{page_id}: not notified of its last vector"

    def wait_complete(self, within_s: float = DONE_S) -> None:
        """Wait until store and notifications are as they must be.

        Raises:
            AssertionError: Some are missing at the timeout; the message lists them.
        """
        self.topic.flush()
        self.embedder.learn(text for text in self.texts.values() if text is not None)
        give_up = time.monotonic() + within_s
        while missing := list(self.missing()):
            found = f"{len(missing)} faults in {len(self.texts)} pages: {missing[:5]}"
            assert any(worker.is_running for worker in self._workers), f"none runs; {found}"
            assert time.monotonic() < give_up, found
            time.sleep(0.1)

    def wait_committed(self, within_s: float = DONE_S) -> None:
        """Wait until all that is in the topic is done, dead letters and deletions, too.

        The lag does not show that: it is measured once a second, and is 0 before.
        """
        wait_committed(self.topic.contents, self.topic.name, self._group, within_s)

    def dead_letters(self) -> list[tuple[str, dict[str, object]]]:
        """Each dead letter's reason, and its event."""
        return self.topic.read_letters()


class Arrivals:
    """When pages first were in all of the outputs that are watched (monotonic seconds).

    Args:
        stream: Whose outputs.
        rows: Whether the store is watched, too, and not the notifications alone.
    """

    def __init__(self, stream: RealStream, *, rows: bool = True) -> None:
        self._stream, self._rows = stream, rows
        self._at: dict[str, float] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Arrivals:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wait(self, page_id: str, within_s: float = ANSWER_S) -> float:
        """When a page was there; waits for it."""
        return eventually(lambda: self._at.get(page_id, 0.0), within_s)

    def _watch(self) -> None:
        counts, rows = self._stream.rag.counts, self._stream.stargate.vectors.rows
        while not self._over.wait(0.002):
            there = set(counts) & set(rows) if self._rows else set(counts)
            now = time.monotonic()
            for page_id in there - self._at.keys():
                self._at[page_id] = now


def percentiles(seconds: Iterable[float]) -> tuple[float, float]:
    """Median and 99th percentile."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2], ordered[math.ceil(len(ordered) * 0.99) - 1]
