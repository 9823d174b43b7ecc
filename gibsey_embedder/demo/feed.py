"""Sends changes to the stream: all pages as a backlog, then live edits with their freshness."""

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

PAGES_PER_PORTION = 1000
EDIT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Edit:
    """A live edit.

    Attributes:
        page_id: The page.
        freshness_s: Seconds from the edit to its last output; None after a timeout.
    """

    page_id: str
    freshness_s: float | None


class Feed:
    """Sends changes, and records the newest text of each page.

    Args:
        services: The services.

    Attributes:
        bodies: The newest text of each page.
        changes: The number of changes of each page.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._random = random.Random(7)
        self._stopped = threading.Event()
        self.bodies: dict[str, str] = {}
        self.changes: Counter[str] = Counter()

    def backlog(self, pages: Sequence[Page]) -> None:
        """Send each page as a create."""
        for number, page in enumerate(pages, 1):
            if self._stopped.is_set():
                return
            self._send(page.page_id, page.body, "c")
            if number % PAGES_PER_PORTION == 0:
                self._services.kafka.wait_for_room(TOPIC, GROUP, self._stopped)
        self._services.kafka.flush()

    def stop(self) -> None:
        """Stop `backlog` early."""
        self._stopped.set()

    def edit(self) -> Edit:
        """Add a sentence to a random page, and wait for its vector and its notification."""
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
    """Return the percentile for a share between 0 and 1; 0 without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
