"""Write a recovery store with some version of this program, for `tests/flow/test_recovery_store.py`.

    git worktree add DIR COMMIT
    python -m tests.samples.write_recovery_store --checkout DIR tests/samples/recovery-VERSION

The program of the checkout runs as its users run it; its services are the fakes of this working
copy. It settles pages and ends by SIGTERM. It starts again, services hang one after the other, and
it is killed in an epoch that it cannot close.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError

from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.message import Request
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.eventually import eventually
from tests.flow.recovery_sample import STORE, Event, Sample, partition_files, produce
from tests.flow.stream import DEAD_LETTER_TOPIC, DONE_S, TOPIC, Stream
from tests.flow.worker import ROOT, SNAPSHOT_S, Worker

PARTITIONS = 3
STORE_PARTITIONS = 4
WORKERS = 4
SETTINGS = {
    "ON_DELETE": "delete",
    "RAG_TIMEOUT": "60",  # so that a notification that hangs is not given up
}
BEGAN_MS = 1_796_000_000_000
STEP_MS = 1_000
"""Between the timestamps of two events."""
PAGE = ("embed", "store", "notify")
"""What a page that is open awaits."""
STEPS_WITH_STATE = ("kafka", "window", "stargate", "rag")
"""Steps of which the last epoch, which is not committed, must have a snapshot."""
LINES = 220
"""Of a long page: 8,000 characters, more tokens than the 2,048 of the model's context."""


class Topic:
    """Produces the events and records what each of them is for.

    Args:
        kafka: The broker.

    Attributes:
        events: All that were produced, in order.
    """

    def __init__(self, kafka: MockKafka) -> None:
        self._kafka = kafka
        self.events: list[Event] = []

    def flat(
        self,
        state: str,
        page_id: str,
        text: str | None,
        *awaits: str,
        op: str = "c",
        headers: Mapping[str, str] | None = None,
    ) -> Event:
        """Produce a flat event; without a text it is a delete."""
        event = {"page_id": page_id, "op": op}
        event = event | {"op": "d"} if text is None else event | {"body": text}
        value = json.dumps(event, ensure_ascii=len(self.events) % 2 == 0)
        return self.raw(state, page_id, text, *awaits, value=value, key=page_id, headers=headers)

    def debezium(
        self, state: str, page_id: str, text: str | None, *awaits: str, op: str = "i"
    ) -> Event:
        """Produce an event as Debezium's connector for Cassandra writes it."""
        written_us = self._next_ms * 1000 - 400_000
        cells = {
            name: {
                "value": value,
                "deletion_ts": written_us if value is None else None,
                "set": True,
            }
            for name, value in {"page_id": page_id, "body": text}.items()
        }
        source = {
            "version": "3.5.0.Final",
            "connector": "cassandra",
            "name": "cdc",
            "ts_ms": written_us // 1000,
            "ts_us": written_us,
            "keyspace": "gibsey",
            "table": "pages",
        }
        value = json.dumps({"ts_ms": self._next_ms, "op": op, "source": source, "after": cells})
        key = json.dumps({"page_id": page_id}, ensure_ascii=False)
        return self.raw(state, page_id, text, *awaits, value=value, key=key)

    def raw(
        self,
        state: str,
        page_id: str | None,
        text: str | None,
        *awaits: str,
        value: str,
        key: str,
        headers: Mapping[str, str] | None = None,
    ) -> Event:
        """Produce an event; all events of a page go to one partition."""
        partition = zlib.crc32((page_id or key).encode()) % PARTITIONS
        offset = sum(event.partition == partition for event in self.events)
        event = Event(
            state,
            awaits,
            page_id,
            text,
            partition,
            offset,
            self._next_ms,
            key,
            value,
            dict(headers or {}),
        )
        self.events.append(event)
        produce(self._kafka, TOPIC, event)
        self._kafka.flush()
        return event

    @property
    def _next_ms(self) -> int:
        return BEGAN_MS + STEP_MS * len(self.events)


class Run:
    """Writes one store.

    Args:
        stream: The fakes, and a directory for the store.
        kafka: The broker among the fakes.
        checkout: The directory of the version.
        flow: The module of its dataflow.
    """

    def __init__(self, stream: Stream, kafka: MockKafka, checkout: Path, flow: str) -> None:
        self._stream, self._kafka = stream, kafka
        self._checkout, self._flow = checkout, flow
        self._topic = Topic(kafka)

    def write(self) -> Sample:
        """Write the store; returns what it holds.

        Raises:
            AssertionError: The program did something else than what this script is for.
        """
        self._make_store()
        worker = self._start()
        replayed = self._settle()
        worker.stop()
        self._kafka.deny_topic(DEAD_LETTER_TOPIC, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        worker = self._start()
        self._hold_rows()
        self._hold_pages(replayed)
        self._wait_epochs(2)
        self._hold_an_epoch(worker)
        worker.kill()
        next_epoch = self._next_epoch()
        shutil.copytree(self._store, self._killed)
        version = re.search(r"version=(\S+)", worker.log)
        return Sample(
            version=version[1] if version else "unknown",
            workers=WORKERS,
            settings=SETTINGS,
            next_epoch=next_epoch,
            topic=TOPIC,
            partitions=PARTITIONS,
            events=self._topic.events,
            vectors=self._vectors_of_long_pages(),
        )

    def pack(self, directory: Path) -> None:
        """Copy the store, as it was when the program was killed, without unused space.

        Each write-ahead log of SQLite goes into its database.
        """
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for file in partition_files(self._killed):
            with closing(sqlite3.connect(file, isolation_level=None)) as database:
                database.execute("VACUUM")
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            shutil.copy(file, directory)

    @property
    def _store(self) -> Path:
        return self._stream.directory / "recovery"

    @property
    def _killed(self) -> Path:
        return self._stream.directory / "killed"

    def _make_store(self) -> None:
        self._store.mkdir()
        command = [sys.executable, "-m", "bytewax.recovery", str(self._store)]
        subprocess.run([*command, str(STORE_PARTITIONS)], check=True)

    def _start(self) -> Worker:
        stream = self._stream
        worker = Worker(
            stream.directory,
            stream.settings(PYTHONPATH=str(self._checkout), **SETTINGS),
            ["-w", str(WORKERS), "-r", str(self._store), "-s", str(SNAPSHOT_S), "-b", "0"],
            program=("-m", "bytewax.run", self._flow),
        )
        stream.workers.append(worker)
        return worker.wait_started()

    # --- the events

    def _settle(self) -> Event:
        """Settle pages, and have two dead letters confirmed; returns the event of one of them."""
        topic, stream = self._topic, self._stream
        stream.rag.faults.status(422, when=_mentions(["replayed page"]))
        for number in range(20):
            topic.flat("settled", f"settled page {number}", f"Settled text of page {number}.")
        topic.flat("settled", "é/ü 漢", "Ein gesetzter Text: naïve café, 漢字, 🙂.")
        topic.debezium("settled", "settled in Cassandra", "A settled text from Cassandra.")
        topic.debezium("settled", "deleted in Cassandra", "A text that will be deleted.")
        topic.flat("settled", "page to delete", "A settled text of a page to delete.")
        topic.flat("settled", "page to update", "The settled text of a page to update.")
        topic.flat("settled", "page to restore", "The settled text of a page to restore.")
        replayed = topic.flat("settled", "replayed page", "A text that RAG refused once.")
        cut_off = '{"page_id": "cut off", "body": "An event without'
        topic.raw("settled", None, None, value=cut_off, key="cut off")
        stream.wait_rows(len({event.page_id for event in topic.events} - {None}))
        topic.debezium("settled", "deleted in Cassandra", None, op="d")
        stream.wait_dead_letters(2)
        stream.wait_committed()
        stream.rag.faults.clear()
        return replayed

    def _hold_rows(self) -> None:
        """Leave rows and notifications in requests to services that hang."""
        topic, stream = self._topic, self._stream
        unstored = ["unstored page", "page to delete", "page to restore"]
        unnotified = ["unnotified page", "unnotifiable page"]
        both = ["unsettled page", "unsettled long page", "page to update"]
        stream.stargate.faults.hang(when=_mentions([*unstored, *both]))
        stream.rag.faults.hang(when=_mentions([*unnotified, *both]))
        topic.flat("unsettled", "unstored page", "A text without a row.", "store")
        topic.flat("unsettled", "unnotified page", "A text without notice: ﷺ Ωμέγα.", "notify")
        topic.flat("unsettled", "unnotifiable page", "A text that RAG refuses.", "refused-by-rag")
        topic.debezium("unsettled", "unsettled page", "A text on its way.", "store", "notify")
        text = "The updated text, on its way."
        topic.flat("unsettled", "page to update", text, "store", "notify", op="u")
        text = _long_text("an unsettled page")
        topic.flat("unsettled", "unsettled long page", text, "store", "notify")
        topic.flat("unsettled", "page to delete", None, "remove")
        eventually(lambda: stream.stargate.stats.in_flight == 5, DONE_S)
        eventually(lambda: stream.rag.stats.in_flight == 5, DONE_S)

    def _hold_pages(self, replayed: Event) -> None:
        """Leave pages in requests to an embedder that hangs, and behind these requests."""
        topic, stream = self._topic, self._stream
        stream.ollama.faults.hang()
        # two requests are in flight at most, each with one page, and the other pages wait
        topic.flat("open", "page with two texts", "The older of two open texts.")
        eventually(lambda: stream.ollama.stats.in_flight == 1, DONE_S)
        topic.flat("open", "page to restore", "A text older than the delete.", "embed", op="u")
        eventually(lambda: stream.ollama.stats.in_flight == 2, DONE_S)
        topic.flat("unsettled", "page to restore", None, "remove")
        eventually(lambda: stream.stargate.stats.in_flight == 6, DONE_S)
        topic.flat("open", "page with two texts", "The newer of two open texts.", *PAGE, op="u")
        topic.flat("open", "open page", "A text that waits for the embedder.", *PAGE)
        topic.flat(
            "open", "öffne/die Seite 漢", "Grüße, 漢字, עברית, e\u0301, 👩‍👩‍👧 and \u2028.", *PAGE
        )
        topic.flat("open", "open long page", _long_text("an open page"), *PAGE)
        topic.flat("open", "offene lange Seite", _long_text("öffentlich, 漢字"), *PAGE)
        topic.debezium("open", "opened in Cassandra", "An open text from Cassandra.", *PAGE)
        topic.flat("open", "settled page 0", "The text of page 0 is open again.", *PAGE, op="u")
        headers = {
            "gibsey-replay-of": f"{TOPIC}:{replayed.partition}:{replayed.offset}",
            "gibsey-timestamp": str(replayed.timestamp_ms),
        }
        topic.flat("open", "replayed page", replayed.text, *PAGE, headers=headers)

    def _hold_an_epoch(self, worker: Worker) -> None:
        """Have events read in an epoch that is not committed: its dead letter is never confirmed."""
        topic = self._topic
        topic.raw("uncommitted", None, None, "undecodable", value="no event", key="no event")
        for number in range(9):
            topic.flat("uncommitted", f"read page {number}", f"Text {number} was read.", *PAGE)
        eventually(lambda: "dead-letters" in worker.stalled(), DONE_S)
        eventually(lambda: self._uncommitted() >= len(STEPS_WITH_STATE), DONE_S)

    # --- the store

    def _wait_epochs(self, count: int) -> None:
        """Wait until so many more epochs are committed."""
        first = self._next_epoch()
        eventually(lambda: self._next_epoch() >= first + count, DONE_S)

    def _next_epoch(self) -> int:
        """The epoch that a start at this moment would resume with."""
        began = self._in_store("SELECT ex_num, worker_count, resume_epoch FROM exs")
        run, workers, first = max(began)
        closed = dict.fromkeys(range(workers), first)
        for number, worker, epoch in self._in_store(
            "SELECT ex_num, worker_index, worker_frontier FROM fronts"
        ):
            if number == run:
                closed[worker] = max(epoch, closed[worker])
        return min(closed.values())

    def _uncommitted(self) -> int:
        """How many steps have snapshots of epochs that are not committed."""
        query = f"SELECT DISTINCT step_id FROM snaps WHERE snap_epoch >= {self._next_epoch()}"
        return len(set(self._in_store(query)))

    def _in_store(self, query: str) -> list[tuple[Any, ...]]:
        found = []
        for file in partition_files(self._store):
            with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
                found += database.execute(query).fetchall()
        return found

    def _vectors_of_long_pages(self) -> dict[str, list[float]]:
        """Let the same version finish, and take the vectors that it stores."""
        stream = self._stream
        self._kafka.deny_topic(DEAD_LETTER_TOPIC, 0)
        for service in (stream.ollama, stream.stargate, stream.rag):
            service.faults.clear()
        worker = self._start()
        stream.wait_committed()
        worker.stop()
        pages = ("unsettled long page", "open long page", "offene lange Seite")
        return {page: stream.stargate.vectors.vector(page) for page in pages}


def _mentions(pages: list[str]) -> Callable[[Request], bool]:
    return lambda request: any(map(request.mentions, pages))


def _long_text(what: str) -> str:
    lines = (f"Line {number} of {what} says that {number * 37 % 101}." for number in range(LINES))
    return "\n".join(lines)


def main() -> None:
    """Write a store from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("to", type=Path, help="directory of the sample")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="where the version lies")
    parser.add_argument("--flow", default="dataflow.main", help="the module of its dataflow")
    given = parser.parse_args()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="recovery-store-"))
        kafka = stack.enter_context(MockKafka({TOPIC: PARTITIONS, DEAD_LETTER_TOPIC: 1}))
        ollama = stack.enter_context(Ollama())
        stargate = stack.enter_context(Stargate())
        rag = stack.enter_context(Rag())
        stream = Stream(Path(directory), kafka, ollama, stargate, rag)
        stack.callback(stream.end)
        run = Run(stream, kafka, given.checkout.resolve(), given.flow)
        sample = run.write()
        run.pack(given.to / STORE)
        sample.save(given.to)


if __name__ == "__main__":
    main()
