"""The RAG service's stand-in: takes `/refresh` and keeps what it was told."""

from __future__ import annotations

import argparse
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import orjson

from gibsey_embedder.fakes.message import Reply, Request, json_answer
from gibsey_embedder.fakes.server import FakeServer, wait_until_terminated

DIMENSIONS = 768
ASKED = "/refresh/"
"""`GET /refresh/PAGE` tells a person or a script how often that page was notified."""


class Rag(FakeServer):
    """A RAG service on a real socket.

    Args:
        token: Bearer token asked for; None asks for none.
        record: Whether the last vector of each page is kept (counts always are).
        delay_s: Seconds that each request takes.
        workers: How many requests are served at once; 0 is no limit.
        host: Address to listen on.
        port: Port; 0 takes a free one.

    Attributes:
        counts: Notifications taken, by page id.
        order: Page ids in the order of their notifications, if recorded.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        record: bool = True,
        delay_s: float = 0.0,
        workers: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port, delay_s=delay_s, workers=workers)
        self.token, self.record = token, record
        self.counts: Counter[str] = Counter()
        self.order: list[str] = []
        self._bodies: dict[str, bytes] = {}
        self._arrived = threading.Condition()

    @property
    def refresh_url(self) -> str:
        """What RAG_REFRESH_URL is set to."""
        return f"{self.url}/refresh"

    def vector(self, page_id: str) -> list[float] | None:
        """The last vector that came for a page; None if none did."""
        body = self._bodies.get(page_id)
        return None if body is None else orjson.loads(body)["vector"]

    def wait_for(self, count: int, timeout_s: float = 10.0) -> bool:
        """Waits until `count` notifications have come; False if they have not in time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: self.stats.items >= count, timeout_s)

    def wait_until(self, done: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        """Waits until `done()` is true, asked after each one; False if it is not in time."""
        with self._arrived:
            return self._arrived.wait_for(done, timeout_s)

    def details(self) -> dict[str, object]:
        """How many pages were notified, and how many of them more than once."""
        doubled = sum(1 for count in self.counts.values() if count > 1)
        return {"pages": len(self.counts), "doubled": doubled}

    async def answer(self, request: Request) -> Reply:
        """Answers one request."""
        if request.method == "GET" and request.path.startswith(ASKED):
            asked = unquote(request.path.removeprefix(ASKED))
            return json_answer({"page_id": asked, "notified": self.counts[asked]})
        if request.path != "/refresh":
            return json_answer({"detail": "Not Found"}, 404)
        if request.method != "POST":
            return json_answer({"detail": "Method Not Allowed"}, 405)
        if self.token is not None and request.bearer() != self.token:
            return json_answer({"detail": "Not authenticated"}, 401)
        try:
            order = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return json_answer({"detail": "There was an error parsing the body"}, 400)
        page_id, vector = _fields(order)
        if not _right(page_id, vector):
            return json_answer({"detail": "page_id and 768 numbers are wanted"}, 422)
        self._take(str(page_id), request.body)
        return json_answer({"status": "ok"})

    def _take(self, page_id: str, body: bytes) -> None:
        with self._arrived:
            if self.record:
                self._bodies[page_id] = body
                self.order.append(page_id)
            self.counts[page_id] += 1  # after the body: who sees the count finds it
            self.stats.carry_out()
            self._arrived.notify_all()


def _fields(order: object) -> tuple[object, object]:
    if not isinstance(order, Mapping):
        return None, None
    return order.get("page_id"), order.get("vector")


def _right(page_id: object, vector: object) -> bool:
    return (
        isinstance(page_id, str)
        and bool(page_id)
        and isinstance(vector, list)
        and len(vector) == DIMENSIONS
        and set(map(type, vector)) <= {float, int}
    )


def main() -> None:
    """Runs a RAG service as a process of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.rag", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0, help="seconds a request")
    parser.add_argument("--workers", type=int, default=0, help="requests at once; 0: no limit")
    parser.add_argument("--token", help="Bearer token to ask for")
    wait_until_terminated(Rag(record=False, **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
