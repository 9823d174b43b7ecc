"""Feeds the stream: all pages as a backlog, then live edits, each timed to its last output."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from gibsey_embedder.demo.pages import Page
from gibsey_embedder.demo.services import GROUP, TOPIC, Services

ROOM_EVERY = 1000
EDIT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Edit:
    """A live edit.

    Attributes:
        page_id: The page.
        freshness_s: Seconds from sending it to its last output; None if it never received.
    """

    page_id: str
    freshness_s: float | None


class Feed:
    """What was sent, and the newest text of each page.

    Args:
        services: The stand-ins.

    Attributes:
        bodies: Each page's newest text.
        changes: Changes sent, by page.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._random = random.Random(7)
        self._stopped = threading.Event()
        self.bodies: dict[str, str] = {}
        self.changes: Counter[str] = Counter()

    def backlog(self, pages: Sequence[Page]) -> None:
        """Sends every page as a create."""
        for number, page in enumerate(pages, 1):
            if self._stopped.is_set():
                return
            self._send(page.page_id, page.body, "c")
            if number % ROOM_EVERY == 0:
                self._services.kafka.wait_for_room(TOPIC, GROUP, self._stopped)
        self._services.kafka.flush()

    def stop(self) -> None:
        """Ends `backlog` early."""
        self._stopped.set()

    def edit(self) -> Edit:
        """Adds a sentence to some page and waits for its vector and its notification."""
        stored, rag = self._services.stargate.vectors, self._services.rag
        page_id = self._random.choice(sorted(self.bodies))
        count = self.changes[page_id] + 1
        began = time.monotonic()
        self._send(page_id, f"{self.bodies[page_id]}\n\nEdited, revision {count}.", "u")
        self._services.kafka.flush()
        done = stored.wait_until(lambda: stored.writes[page_id] >= count, EDIT_TIMEOUT_S)
        done = rag.wait_until(lambda: rag.counts[page_id] >= count, EDIT_TIMEOUT_S) and done
        return Edit(page_id, time.monotonic() - began if done else None)

    def _send(self, page_id: str, body: str, op: str) -> None:
        event = orjson.dumps({"page_id": page_id, "body": body, "op": op})
        self.bodies[page_id] = body
        self.changes[page_id] += 1
        self._services.stargate.pages.seed([(page_id, {"body": body})])
        self._services.kafka.produce(TOPIC, page_id, event)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are not above; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
