"""The services of a program under measurement: fakes in processes of their own.

Only the mock broker runs in this process, which otherwise sleeps.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType

import orjson

from bench.broker import Broker, open_broker
from bench.program import Processes, Program
from bench.service import Service
from gibsey_embedder.fakes.stargate.server import TOKEN

PAGE_CHARS = 400
PORTION_PAGES = 1000
"""The portion of a backlog that is too large for the broker."""
PAGES_BETWEEN_FLUSHES = 20_000
TIMEOUT_S = 300.0
POLL_INTERVAL_S = 0.05
WORDS = ("time", "page", "river", "stone", "light", "word", "hand", "night", "road", "glass")


@dataclass(frozen=True, slots=True)
class Speed:
    """The durations and the concurrency of the services.

    Attributes:
        request_s: Seconds of the embedder per request.
        text_s: Seconds of the embedder per text.
        embed_at_once: Requests that each embedder serves at once.
        store_s: Seconds of Stargate per request.
        store_row_s: Seconds of Stargate per row of a bulk.
        store_at_once: Requests that Stargate serves at once; 0 means no limit.
        notify_s: Seconds of the RAG service per request.
        notify_at_once: Requests that the RAG service serves at once; 0 means no limit.
    """

    request_s: float = 0.0
    text_s: float = 0.0
    embed_at_once: int = 1
    store_s: float = 0.0
    store_row_s: float = 0.0
    store_at_once: int = 0
    notify_s: float = 0.0
    notify_at_once: int = 0


FREE = Speed()
EMBEDDER_SLOWEST = Speed(request_s=0.005, text_s=0.003, store_s=0.020, notify_s=0.020)


class Rig:
    """A new, empty broker, embedders, Stargate and RAG service.

    Args:
        speed: The durations of the services.
        kafka: Address of a real broker; None means the mock.
        embedders: Number of embedders.

    Attributes:
        services: The fakes by name, embedders first; the first embedder is `embedder`.
    """

    def __init__(self, speed: Speed, kafka: str | None = None, embedders: int = 1) -> None:
        self._speed, self._kafka, self._embedders = speed, kafka, embedders
        self._pages = 0
        self.services: dict[str, Service] = {}

    def __enter__(self) -> Rig:
        with ThreadPoolExecutor() as pool:  # each fake takes most of a second to start
            futures = [(name, pool.submit(start)) for name, start in self._services()]
        with ExitStack() as starting:
            for name, service in futures:
                self.services[name] = starting.enter_context(service.result())
            self.broker: Broker = starting.enter_context(open_broker(self._kafka))
            self._running = starting.pop_all()
        return self

    def _services(self) -> list[tuple[str, Callable[[], Service]]]:
        speed = self._speed

        def embedder() -> Service:
            times = {"request_s": speed.request_s, "text_s": speed.text_s}
            return Service("ollama", **times, servers=speed.embed_at_once, cheap=True)

        def stargate() -> Service:
            times = {"delay_s": speed.store_s, "row_s": speed.store_row_s}
            return Service("stargate", **times, workers=speed.store_at_once)

        def rag() -> Service:
            return Service("rag", delay_s=speed.notify_s, workers=speed.notify_at_once)

        names = ["embedder", *(f"embedder {n}" for n in range(2, self._embedders + 1))]
        return [*((name, embedder) for name in names), ("Stargate", stargate), ("RAG", rag)]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def settings(self, **more: str) -> dict[str, str]:
        """Return the environment of a program that uses these services."""
        urls = {name: service.url for name, service in self.services.items()}
        stargate, rag = urls.pop("Stargate"), urls.pop("RAG")
        return service_settings(self.broker, ",".join(urls.values()), stargate, rag) | more

    def feed(self, pages: int) -> None:
        """Send new pages to the topic; the mock holds up to 20,000."""
        for _ in range(pages):
            self._pages += 1
            send_page(self.broker, f"page-{self._pages}", self._pages)
            if self._pages % PAGES_BETWEEN_FLUSHES == 0:
                self.broker.flush()
        self.broker.flush()

    def feed_in_portions(self, pages: int) -> threading.Thread:
        """Send new pages from a thread, as soon as the topic has room."""

        def run() -> None:
            for _ in range(0, pages, PORTION_PAGES):
                self.feed(min(PORTION_PAGES, pages - self._pages))
                self.broker.wait_for_room()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def embedded(self) -> int:
        """Return the number of pages that the first embedder has embedded."""
        return self.services["embedder"].counts().items

    def delivered(self) -> int:
        """Return the number of pages that both outputs have received."""
        return min(self.services[name].counts().items for name in ("Stargate", "RAG"))

    def wait_until_delivered(self, pages: float, program: Program | Processes) -> None:
        """Wait until both outputs have received this total number of pages."""
        wait_until(lambda: self.delivered() >= pages, program)


def service_settings(broker: Broker, embedder: str, stargate: str, rag: str) -> dict[str, str]:
    """Return the environment of a program that uses services at these URLs."""
    return {
        "KAFKA_BROKER": broker.address,
        "KAFKA_TOPIC": broker.topic,
        "KAFKA_GROUP": broker.group,
        "KAFKA_OPTIONS": orjson.dumps(broker.options).decode(),
        "EMBED_URL": embedder,
        "EMBED_LOWERCASE": "off",
        "STARGATE_URL": stargate,
        "STARGATE_AUTH_TOKEN": TOKEN,
        "STARGATE_GRAPHQL_URL": f"{stargate}/graphql",
        "RAG_REFRESH_URL": f"{rag}/refresh",
        "STATUS_PORT": "0",
    }


def send_page(broker: Broker, page_id: str, seed: int, op: str = "c") -> None:
    """Send one page to the topic; the seed determines its text."""
    change = {"page_id": page_id, "body": page_text(seed), "op": op}
    broker.send(page_id, orjson.dumps(change))


def page_text(seed: int) -> str:
    """Return a text of about `PAGE_CHARS` characters."""
    words = random.Random(seed).choices(WORDS, k=PAGE_CHARS // 5)
    return f"Text {seed}: " + " ".join(words)


def wait_until(
    condition: Callable[[], bool],
    program: Program | Processes,
    interval_s: float = POLL_INTERVAL_S,
) -> None:
    """Wait until the condition is true.

    Raises:
        RuntimeError: The program has ended.
        TimeoutError: The condition is still false after `TIMEOUT_S`.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        program.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing arrived within {TIMEOUT_S:.0f} s")
        time.sleep(interval_s)
