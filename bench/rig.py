"""The services round a program under measurement: stand-ins in processes of their own.

Only the broker lives in this process, which otherwise sleeps.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any

import orjson

from bench.program import Processes, Program
from demo.kafka import CLIENT_OPTIONS, MockKafka
from demo.process import StandInProcess
from demo.stargate import TOKEN

TOPIC = "cdc.pages"
GROUP = "gibsey-embedder"
PAGE_CHARS = 400
PAGES_BETWEEN_LOOKS = 1000
"""A backlog that the broker cannot hold at once is fed in such portions."""
TIMEOUT_S = 300.0
WORDS = ("time", "page", "river", "stone", "light", "word", "hand", "night", "road", "glass")


@dataclass(frozen=True, slots=True)
class Speed:
    """How long the services take.

    Attributes:
        request_s: The embedder, a request.
        text_s: The embedder, a text.
        store_s: Stargate, a request.
        store_row_s: Stargate, a row of a bulk.
        store_at_once: Requests that Stargate works on at once; 0: any number.
        notify_s: The RAG service, a request.
        notify_at_once: Requests that it works on at once; 0: any number.
    """

    request_s: float = 0.0
    text_s: float = 0.0
    store_s: float = 0.0
    store_row_s: float = 0.0
    store_at_once: int = 0
    notify_s: float = 0.0
    notify_at_once: int = 0


FREE = Speed()
EMBEDDER_SLOWEST = Speed(request_s=0.005, text_s=0.003, store_s=0.020, notify_s=0.020)


class Rig:
    """Broker, embedder, Stargate and RAG service, new and empty.

    Args:
        speed: How long they take.
        embedders: How many embedders there are.

    Attributes:
        ollama: The embedder, or the first of several.
    """

    def __init__(self, speed: Speed, embedders: int = 1) -> None:
        self.speed = speed
        self._embedders = embedders
        self._running = ExitStack()
        self._pages = 0

    def __enter__(self) -> Rig:
        start, speed = self._running.enter_context, self.speed
        self.kafka = start(MockKafka())
        self._ollamas = [
            start(
                StandInProcess("ollama", request_s=speed.request_s, text_s=speed.text_s, cheap=True)
            )
            for _ in range(self._embedders)
        ]
        self.ollama = self._ollamas[0]
        self.stargate = start(
            StandInProcess(
                "stargate",
                delay_s=speed.store_s,
                row_s=speed.store_row_s,
                workers=speed.store_at_once,
            )
        )
        self.rag = start(
            StandInProcess("rag", delay_s=speed.notify_s, workers=speed.notify_at_once)
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def settings(self, **more: str) -> dict[str, str]:
        """The environment of a program that uses these services."""
        embedders = ",".join(ollama.url for ollama in self._ollamas)
        addresses = (self.kafka.broker, embedders, self.stargate.url, self.rag.url)
        return service_settings(*addresses) | more

    def feed(self, pages: int) -> None:
        """Put new pages into the topic, at once; 20,000 are the most that the broker holds."""
        for _ in range(pages):
            self._pages += 1
            send_page(self.kafka, f"page-{self._pages}", self._pages)
        self.kafka.flush()

    def feed_in_portions(self, pages: int) -> threading.Thread:
        """Put new pages into the topic as it empties, from a thread."""

        def run() -> None:
            for _ in range(0, pages, PAGES_BETWEEN_LOOKS):
                self.feed(PAGES_BETWEEN_LOOKS)
                self.kafka.wait_for_room(TOPIC, GROUP)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def wait_until_delivered(self, pages: int, program: Program | Processes) -> None:
        """Wait until both outputs have had so many pages in all."""
        for service in (self.rag, self.stargate):
            wait_until(partial(_has, service, pages), program, every_s=0.1)


def service_settings(broker: str, embedder: str, stargate: str, rag: str) -> dict[str, str]:
    """The environment of a program that uses services at these addresses."""
    return {
        "KAFKA_BROKER": broker,
        "KAFKA_OPTIONS": orjson.dumps(CLIENT_OPTIONS).decode(),
        "EMBED_URL": embedder,
        "EMBED_LOWERCASE": "off",
        "STARGATE_URL": stargate,
        "STARGATE_AUTH_TOKEN": TOKEN,
        "STARGATE_GRAPHQL_URL": f"{stargate}/graphql",
        "RAG_REFRESH_URL": f"{rag}/refresh",
        "STATUS_PORT": "0",
    }


def send_page(kafka: MockKafka, page_id: str, seed: int, op: str = "c") -> None:
    """Put one page into the topic; another seed means another text."""
    change = {"page_id": page_id, "body": page_text(seed), "op": op}
    kafka.produce(TOPIC, page_id, orjson.dumps(change))


def page_text(seed: int) -> str:
    """A text of about `PAGE_CHARS` characters."""
    words = random.Random(seed).choices(WORDS, k=PAGE_CHARS // 5)
    return f"Text {seed}: " + " ".join(words)


def _has(stand_in: StandInProcess, items: int) -> bool:
    return count(stand_in, "items") >= items


def reached(
    stand_in: StandInProcess, items: float, name: str, program: Program | Processes
) -> tuple[float, float]:
    """Wait until a stand-in has had so many items; returns when, and one of its counts by then."""
    wait_until(lambda: count(stand_in, "items") >= items, program, every_s=0.01)
    return time.monotonic(), count(stand_in, name)


def count(stand_in: StandInProcess, name: str) -> float:
    """One of a stand-in's counts."""
    value: Any = stand_in.stats()[name]
    return float(value)


def wait_until(
    condition: Callable[[], bool], program: Program | Processes, every_s: float = 0.05
) -> None:
    """Wait, as long as the program lives.

    Raises:
        TimeoutError: It does not come true.
    """
    ends = time.monotonic() + TIMEOUT_S
    while not condition():
        program.check()
        if time.monotonic() > ends:
            raise TimeoutError(f"nothing came within {TIMEOUT_S:.0f} s")
        time.sleep(every_s)
