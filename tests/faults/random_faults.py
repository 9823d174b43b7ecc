"""Causes random faults and kills while pages change, and then counts lost pages.

`make torture SEED=… MINUTES=…` runs it. The seed determines all faults and their durations,
so a failing seed can be repeated. It does not determine the program's progress at each fault.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.server import FakeServer
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.flow.stream import Stream, same
from tests.flow.worker import ROOT, Worker, passed_on

PAGES = 150
PARTITIONS = 3
CHECK_INTERVAL_S = 20.0
"""Interval of the checks, so that a loss is found near its cause."""
END_TIMEOUT_S = 120.0
RAG_PROBE_S = 16.0
REPLAYS = 3
"""The program probes an abandoned RAG service at least every 15 s."""
LONGEST_FAULT_S = 3.0
WORKER_LAYOUTS = ("1", "2", "4", "2x2")
EXPECTED_REASONS = ("rag-unreachable", "refused-by-rag")
"""Reasons that a temporary fault may cause, because only RAG is abandoned."""
ODD_IDS = ("a/b", "..", " edge ", "it's", "'quoted'", "ü/ß%20", "42", "x" * 200)


def envelope(page_id: str, text: str | None, written_us: int) -> object:
    """Return a change in Debezium's format."""
    cells = {
        name: {"value": value, "deletion_ts": None, "set": True}
        for name, value in (("page_id", page_id), ("body", text))
    }
    if text is None:
        cells["body"] = None
    op = "d" if text is None else "u"
    return {"op": op, "source": {"ts_us": written_us}, "after": cells}


class LostError(AssertionError):
    """Something is missing or wrong, or an event was given up without need."""


@dataclass(slots=True)
class RandomFaults:
    """One run.

    Attributes:
        stream: Fakes and workers.
        seed: The seed of the random numbers.
        minutes: The duration.
        log: Receives a line for each step.
    """

    stream: Stream
    seed: int
    minutes: float
    log: Callable[[str], None] = print
    rng: random.Random = field(init=False)
    keeps_store: bool = field(init=False)
    deletes: bool = field(init=False)
    debezium: bool = field(init=False)
    bulk: str = field(init=False)
    sent: deque[tuple[str, object]] = field(default_factory=lambda: deque(maxlen=300))
    workers: list[Worker] = field(default_factory=list)
    written_us: int = 1_700_000_000_000_000
    bodies: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.keeps_store = self.rng.random() < 0.8
        self.deletes = self.rng.random() < 0.6
        self.debezium = self.rng.random() < 0.5
        self.bulk = self.rng.choice(("rest", "graphql", "custom"))

    def run(self) -> Counter[str]:
        """Run the test; return how often each fault and each end occurred.

        Raises:
            LostError: With the seed, and what is missing.
        """
        self.log(
            f"seed {self.seed}: store={self.keeps_store} deletes={self.deletes} "
            f"debezium={self.debezium} bulk={self.bulk}"
        )
        self._start()
        ends = time.monotonic() + self.minutes * 60
        while time.monotonic() < ends:
            rest = min(time.monotonic() + CHECK_INTERVAL_S, ends)
            while time.monotonic() < rest:
                self._step()
            self._count_all()
            self._replay()
        self._stop()
        if found := self._missing(set()):
            raise LostError(f"seed {self.seed}: at the end {len(found)} problems: {found[:5]}")
        self._check_logs()
        return self.done

    # --- steps

    def _step(self) -> None:
        name, fault = self.rng.choice(list(self._faults()))
        ending, end = self.rng.choice(list(self._endings()))
        seconds = self.rng.uniform(0.1, LONGEST_FAULT_S)
        self.done.update((name, ending))
        self.log(f"  {name} for {seconds:.1f} s, {ending}")
        self._write(self.rng.randrange(40))
        undo = fault()
        self._write(self.rng.randrange(40))
        self._live(seconds)
        end()
        self._live(self.rng.uniform(0.0, 1.5))
        if undo is not None:
            undo()

    def _endings(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Return the ways to end the program during a fault."""
        yield "kill", self._kill
        yield "kill twice", self._kill_twice
        yield "stop", self._stop_and_start
        for _ in range(4):
            yield "runs on", lambda: None

    def _faults(self) -> Iterator[tuple[str, Callable[[], Callable[[], None] | None]]]:
        """Return the faults of the services."""
        yield "no fault", lambda: None
        yield "kafka down", self._kafka_down
        yield "runner killed", lambda: self.stream.ollama.kill_runner(0.5)
        for quirk in ("few", "many", "short"):
            yield f"ollama {quirk}", lambda quirk=quirk: self._spoil(quirk)
        services: dict[str, FakeServer] = {
            "ollama": self.stream.ollama,
            "stargate": self.stream.stargate,
            "rag": self.stream.rag,
        }
        for name, service in services.items():
            for kind in ("refuse", "hang", "slow", "busy", "500", "503", "cut", "drop", "html"):
                yield f"{name} {kind}", lambda s=service, k=kind: self._fault(s, k)

    def _fault(self, service: FakeServer, kind: str) -> Callable[[], None]:
        faults, share = service.faults, self.rng.choice((0.1, 0.5, 1.0))
        dice = random.Random(self.rng.random())

        def when(_: object) -> bool:
            return dice.random() < share

        if kind == "refuse":
            service.refuse()
            return service.accept
        if kind == "hang":
            faults.hang(when=when)
        elif kind == "slow":
            faults.slow(0.5, when=when)
        elif kind == "busy":
            faults.status(429, b"busy", {"Retry-After": "1"}, when=when)
        elif kind in ("500", "503"):
            faults.status(int(kind), b'{"error":"out of order"}', when=when, done=share == 0.5)
        elif kind == "cut":
            faults.cut(when=when)
        elif kind == "drop":
            faults.drop(when=when)
        else:
            faults.html(502, when=when)
        return faults.clear

    def _spoil(self, quirk: str) -> Callable[[], None]:
        self.stream.ollama.add_quirk(quirk)  # type: ignore[arg-type]
        return self.stream.ollama.clear_quirks

    def _kafka_down(self) -> Callable[[], None]:
        self.stream.kafka.flush(60)
        self.stream.kafka.down()
        return self.stream.kafka.up

    def _kill(self) -> None:
        self.rng.choice(self.workers).kill()
        if (
            len(self.workers) > 1
        ):  # a process that waits for a service notices the end when the service responds
            self._clear_faults()
        for worker in self.workers:
            if worker.has_begun:  # the other processes of a cluster end by themselves
                worker.wait(END_TIMEOUT_S)
            else:  # it still waits for the killed process
                worker.kill()
        self._start()

    def _kill_twice(self) -> None:
        self._kill()
        self._live(self.rng.uniform(0.0, 1.5))
        self._kill()

    def _stop_and_start(self) -> None:
        self._stop()
        self._start()

    def _stop(self) -> None:
        begun = [worker.has_begun for worker in self.workers]
        for worker in self.workers:
            worker.signal()
        for worker, had_started in zip(self.workers, begun, strict=True):
            if (code := worker.wait(END_TIMEOUT_S)) and had_started:
                raise LostError(f"seed {self.seed}: SIGTERM ended with {code}")

    def _start(self) -> None:
        layout = self.rng.choice(WORKER_LAYOUTS if self.keeps_store else WORKER_LAYOUTS[:-1])
        settings = self._settings()
        if layout == "2x2":
            self.workers = self.stream.start_cluster(**settings)
        else:
            self.workers = [self.stream.start(int(layout), store=self.keeps_store, **settings)]

    def _settings(self) -> dict[str, Any]:
        return {
            "ON_DELETE": "delete" if self.deletes else "ignore",
            "STATUS_PORT": "0",
            "EMBED_CONCURRENCY": str(self.rng.choice((1, 2, 5, 16))),
            "WINDOW_PAGES": str(self.rng.choice((1, 4, 32))),
            "STARGATE_BULK": self.bulk,
            "STARGATE_BULK_URL": self.stream.stargate.bulk_url if self.bulk == "custom" else "",
        }

    def _live(self, seconds: float) -> None:
        """Change pages for some seconds."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._write(self.rng.randrange(4))
            time.sleep(0.1)

    def _write(self, count: int) -> None:
        for _ in range(count):
            number = self.rng.randrange(PAGES)
            page_id = ODD_IDS[number] if number < len(ODD_IDS) else f"page-{number}"
            dice = self.rng.random()
            if dice < 0.12:
                self._send(page_id, None)
                continue
            old = self.bodies.get(page_id, "")
            text = old if old and dice < 0.2 else f"{page_id} is {self.rng.getrandbits(40):x} now"
            self.bodies[page_id] = text
            self._send(page_id, text)

    def _send(self, page_id: str, text: str | None) -> None:
        if not self.debezium:
            if text is None:
                self.stream.delete(page_id)
            else:
                self.stream.write(page_id, text)
            return
        self.stream.texts[page_id] = text
        self.written_us += 1
        event = envelope(page_id, text, self.written_us)
        # without a store, the versions from another partition are unknown
        partition = self.rng.randrange(PARTITIONS) if self.keeps_store else None
        self.stream.send(page_id, event, partition)
        self.sent.append((page_id, event))
        if (
            self.keeps_store and self.rng.random() < 0.2
        ):  # late, or twice; the store has the page versions
            late_id, late = self.rng.choice(self.sent)
            self.stream.send(late_id, late, self.rng.randrange(PARTITIONS))

    # --- checks

    def _count_all(self) -> None:
        self._clear_faults()
        self.stream.kafka.flush(60)
        self._wait_until_none(lambda: self._missing(self._given_up()))

    def _replay(self) -> None:
        """Replay dead letters, after which nothing may be missing.

        A recovered RAG service is abandoned until its next probe, and a replay before
        that creates dead letters again, which the next replay sends.
        """
        for _ in range(REPLAYS - 1):
            self._send_dead_letters()
            again = time.monotonic() + RAG_PROBE_S
            while (missing := self._missing(set())) and time.monotonic() < again:
                time.sleep(0.3)
            if not missing:
                break
        else:
            self._send_dead_letters()
        self.done["replay"] += 1
        self._wait_until_none(lambda: self._missing(set()))

    def _send_dead_letters(self) -> None:
        settings = self._settings() | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "gibsey_embedder.cli", "replay", "--yes"]
        done = subprocess.run(
            command,
            env=passed_on() | self.stream.settings(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=END_TIMEOUT_S,
        )
        if done.returncode:
            raise LostError(f"seed {self.seed}: the replay failed: {done.stdout}")

    def _wait_until_none(self, missing: Callable[[], list[str]]) -> None:
        give_up = time.monotonic() + END_TIMEOUT_S
        while found := missing():
            for worker in self.workers:
                if not worker.is_running:
                    raise LostError(f"seed {self.seed}: a worker has ended; {found[:5]}")
            if time.monotonic() > give_up:
                raise LostError(f"seed {self.seed}: {len(found)} problems: {found[:5]}")
            time.sleep(0.3)
        self.log(f"  all right: {len(self.stream.texts)} pages, {sum(self.done.values())} steps")

    def _clear_faults(self) -> None:
        for service in (self.stream.ollama, self.stream.stargate, self.stream.rag):
            service.faults.clear()
            service.accept()

    def _missing(self, given_up: set[tuple[str, str]]) -> list[str]:
        """Compare the store and the notifications with the newest changes.

        Args:
            given_up: Pages and texts that need not have been notified.
        """
        found: list[str] = []
        for page_id, text in self.stream.texts.items():
            wanted = text if self.deletes or text is not None else self.bodies.get(page_id)
            vector = self.stream.stargate.vectors.vector(page_id)
            if wanted is None:
                if vector is not None:
                    found.append(f"{page_id}: deleted, but its row is there")
                continue
            if not same(vector, wanted):
                found.append(f"{page_id}: {'no row' if vector is None else 'an older vector'}")
            notified = same(self.stream.rag.vector(page_id), wanted)
            if not notified and (page_id, wanted) not in given_up:
                found.append(f"{page_id}: its last vector was not notified")
        return found

    def _given_up(self) -> set[tuple[str, str]]:
        """Return the pages and texts of dead notifications; any other dead letter is an error."""
        given_up = set()
        for dead_letter in self.stream.dead_letters():
            reason = dead_letter.headers["reason"].decode()
            event = json.loads(dead_letter.value or b"{}")
            if reason not in EXPECTED_REASONS:
                detail = dead_letter.headers["detail"].decode()
                raise LostError(f"seed {self.seed}: dead letter {reason} ({detail}): {event}")
            if "after" in event:
                event = {name: cell["value"] for name, cell in event["after"].items()}
            given_up.add((event["page_id"], event["body"]))
        return given_up

    def _check_logs(self) -> None:
        for worker in self.stream.workers:
            for sign in ("Traceback", " fatal ", "panicked"):
                if sign in worker.log and worker.is_ordinary_end:
                    raise LostError(f"seed {self.seed}: {sign.strip()} in a log")


def run_random_faults(
    seed: int, minutes: float, directory: Path, log: Callable[[str], None] = print
) -> Counter[str]:
    """Run the test with its own fakes; return how often each fault and each end occurred."""
    with ExitStack() as stack:
        kafka = stack.enter_context(MockKafka())
        ollama = stack.enter_context(Ollama(request_s=0.002, text_s=0.002, servers=3))
        stargate = stack.enter_context(Stargate(delay_s=0.005))
        rag = stack.enter_context(Rag(delay_s=0.005))
        stream = Stream(directory, kafka, ollama, stargate, rag)
        stack.callback(stream.kill_all)
        return RandomFaults(stream, seed, minutes, log).run()


def main() -> None:
    """Run the test from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.random_faults", description=__doc__
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="random-faults-"))
    try:
        done = run_random_faults(given.seed, given.minutes, directory)
    except AssertionError as error:
        print(f"FAILED: {error}\nlogs and recovery store: {directory}")
        sys.exit(1)
    print(f"nothing lost; done: {dict(done.most_common())}")


if __name__ == "__main__":
    main()
