"""A fake RAG service: accepts `POST /refresh` and records the notifications."""

from __future__ import annotations

import argparse
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import orjson

from gibsey_embedder.fakes.message import Reply, Request, json_reply
from gibsey_embedder.fakes.server import FakeServer, wait_until_terminated

DIMENSIONS = 768
PAGE_PATH = "/refresh/"
"""`GET /refresh/PAGE` returns how often that page was notified."""


class Rag(FakeServer):
    """A RAG service on a real socket.

    Args:
        token: The Bearer token that requests need; None accepts all requests.
        record: Whether to keep the last vector of each page; counts are always kept.
        delay_s: Seconds that each request takes.
        workers: Maximum number of requests served at once; 0 means no limit.
        host: Address to listen on.
        port: Port; 0 chooses a free one.

    Attributes:
        counts: Accepted notifications by page id.
        order: Page ids in the order of their notifications, if `record` is set.
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
        self._changed = threading.Condition()

    @property
    def refresh_url(self) -> str:
        """The value for RAG_REFRESH_URL."""
        return f"{self.url}/refresh"

    def vector(self, page_id: str) -> list[float] | None:
        """Return the last vector received for a page, or None."""
        body = self._bodies.get(page_id)
        return None if body is None else orjson.loads(body)["vector"]

    def wait_for(self, count: int, timeout_s: float = 10.0) -> bool:
        """Wait until `count` notifications were accepted; return False at a timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: self.stats.items >= count, timeout_s)

    def wait_until(self, done: Callable[[], bool], timeout_s: float = 10.0) -> bool:
        """Wait until `done()` is true after a notification; return False at a timeout."""
        with self._changed:
            return self._changed.wait_for(done, timeout_s)

    def details(self) -> dict[str, object]:
        """Return how many pages were notified, and how many of them more than once."""
        doubled = sum(1 for count in self.counts.values() if count > 1)
        return {"pages": len(self.counts), "doubled": doubled}

    async def reply_to(self, request: Request) -> Reply:
        """Return the reply to one request."""
        if request.method == "GET" and request.path.startswith(PAGE_PATH):
            page = unquote(request.path.removeprefix(PAGE_PATH))
            return json_reply({"page_id": page, "notified": self.counts[page]})
        if request.path != "/refresh":
            return json_reply({"detail": "Not Found"}, 404)
        if request.method != "POST":
            return json_reply({"detail": "Method Not Allowed"}, 405)
        if self.token is not None and request.bearer() != self.token:
            return json_reply({"detail": "Not authenticated"}, 401)
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError:
            return json_reply({"detail": "There was an error parsing the body"}, 400)
        page_id, vector = _fields(body)
        if not _is_valid(page_id, vector):
            return json_reply({"detail": "page_id and 768 numbers are required"}, 422)
        self._accept(str(page_id), request.body)
        return json_reply({"status": "ok"})

    def _accept(self, page_id: str, body: bytes) -> None:
        with self._changed:
            if self.record:
                self._bodies[page_id] = body
                self.order.append(page_id)
            self.counts[page_id] += 1  # after the body, which a reader of the count expects
            self.stats.count_done()
            self._changed.notify_all()


def _fields(body: object) -> tuple[object, object]:
    if not isinstance(body, Mapping):
        return None, None
    return body.get("page_id"), body.get("vector")


def _is_valid(page_id: object, vector: object) -> bool:
    return (
        isinstance(page_id, str)
        and bool(page_id)
        and isinstance(vector, list)
        and len(vector) == DIMENSIONS
        and set(map(type, vector)) <= {float, int}
    )


def main() -> None:
    """Run a RAG service as a process of its own."""
    parser = argparse.ArgumentParser(
        prog="python -m gibsey_embedder.fakes.rag", description=__doc__
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0, help="seconds per request")
    parser.add_argument("--workers", type=int, default=0, help="requests at once; 0: no limit")
    parser.add_argument("--token", help="Bearer token that requests need")
    wait_until_terminated(Rag(record=False, **vars(parser.parse_args())))


if __name__ == "__main__":
    main()
