"""The services round a program under measurement: stand-ins in processes of their own.

Of them only the mock broker lives in this process, which otherwise sleeps.
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
PAGES_BETWEEN_LOOKS = 1000
"""A backlog that the broker cannot hold at once is fed in such portions."""
PAGES_BETWEEN_FLUSHES = 20_000
TIMEOUT_S = 300.0
LOOK_EVERY_S = 0.05
WORDS = ("time", "page", "river", "stone", "light", "word", "hand", "night", "road", "glass")


@dataclass(frozen=True, slots=True)
class Speed:
    """How long the services take.

    Attributes:
        request_s: The embedder, a request.
        text_s: The embedder, a text.
        embed_at_once: Requests that each embedder works on at once.
        store_s: Stargate, a request.
        store_row_s: Stargate, a row of a bulk.
        store_at_once: Requests that Stargate works on at once; 0: any number.
        notify_s: The RAG service, a request.
        notify_at_once: Requests that it works on at once; 0: any number.
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
    """Broker, embedders, Stargate and RAG service, new and empty.

    Args:
        speed: How long they take.
        kafka: Address of a real broker; None for the mock.
        embedders: How many embedders there are.

    Attributes:
        services: The stand-ins by name; the embedders first, the first of them as `embedder`.
    """

    def __init__(self, speed: Speed, kafka: str | None = None, embedders: int = 1) -> None:
        self._speed, self._kafka, self._embedders = speed, kafka, embedders
        self._pages = 0
        self.services: dict[str, Service] = {}

    def __enter__(self) -> Rig:
        with ThreadPoolExecutor() as pool:  # each takes most of a second to start
            begun = [(name, pool.submit(start)) for name, start in self._services()]
        with ExitStack() as starting:
            for name, started in begun:
                self.services[name] = starting.enter_context(started.result())
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
        """The environment of a program that uses these services."""
        urls = {name: service.url for name, service in self.services.items()}
        stargate, rag = urls.pop("Stargate"), urls.pop("RAG")
        return service_settings(self.broker, ",".join(urls.values()), stargate, rag) | more

    def feed(self, pages: int) -> None:
        """Put new pages into the topic; 20,000 are the most that the mock holds."""
        for _ in range(pages):
            self._pages += 1
            send_page(self.broker, f"page-{self._pages}", self._pages)
            if self._pages % PAGES_BETWEEN_FLUSHES == 0:
                self.broker.flush()
        self.broker.flush()

    def feed_in_portions(self, pages: int) -> threading.Thread:
        """Put new pages into the topic as there is room, from a thread."""

        def run() -> None:
            for _ in range(0, pages, PAGES_BETWEEN_LOOKS):
                self.feed(min(PAGES_BETWEEN_LOOKS, pages - self._pages))
                self.broker.wait_for_room()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread

    def embedded(self) -> int:
        """Pages that the first embedder has embedded."""
        return self.services["embedder"].counts().items

    def delivered(self) -> int:
        """Pages that both outputs have had."""
        return min(self.services[name].counts().items for name in ("Stargate", "RAG"))

    def wait_until_delivered(self, pages: float, program: Program | Processes) -> None:
        """Wait until both outputs have had so many pages in all."""
        wait_until(lambda: self.delivered() >= pages, program)


def service_settings(broker: Broker, embedder: str, stargate: str, rag: str) -> dict[str, str]:
    """The environment of a program that uses services at these addresses."""
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
    """Put one page into the topic; another seed means another text."""
    change = {"page_id": page_id, "body": page_text(seed), "op": op}
    broker.send(page_id, orjson.dumps(change))


def page_text(seed: int) -> str:
    """A text of about `PAGE_CHARS` characters."""
    words = random.Random(seed).choices(WORDS, k=PAGE_CHARS // 5)
    return f"Text {seed}: " + " ".join(words)


def wait_until(
    condition: Callable[[], bool],
    program: Program | Processes,
    every_s: float = LOOK_EVERY_S,
) -> None:
    """Wait, as long as the program lives.

    Raises:
        RuntimeError: The program has ended.
        TimeoutError: It does not come true.
    """
    ends = time.monotonic() + TIMEOUT_S
    while not condition():
        program.check()
        if time.monotonic() > ends:
            raise TimeoutError(f"nothing came within {TIMEOUT_S:.0f} s")
        time.sleep(every_s)
