"""The cache of the latest vectors."""

from __future__ import annotations

from cachetools import LRUCache

from connectors.embedders.text_rules import TextRules
from connectors.observability.metrics import Metrics

NUMBER_BYTES = 12.5
"""Text of one number of a vector, with its comma: float32's shortest."""
RESERVED_BYTES = 32 * 1024 * 1024
"""What a cache takes at the start, at most."""


class VectorCache:
    """The latest vectors by text and rules, least recently used dropped first.

    Used on the event loop only. Keys are digests, so that memory depends on vectors alone: 768
    numbers are 9.5 KB as Ollama writes them, 16 KB where their length had to be made 1.

    Args:
        pages: How many vectors it holds; 0 turns it off.
        metrics: Where hits and misses are counted.
        reserved_bytes: The memory of so long a text is taken for each vector at once, up to
            `RESERVED_BYTES`, by entries that no text has and that go first, so that a process does
            not go on growing until it has made so many vectors.
    """

    def __init__(self, pages: int, metrics: Metrics, reserved_bytes: int = 0) -> None:
        self._vectors: LRUCache[bytes, bytes] | None = LRUCache(pages) if pages > 0 else None
        if self._vectors is not None and reserved_bytes:
            for number in range(min(pages, RESERVED_BYTES // reserved_bytes)):
                self._vectors[b"unused %d" % number] = b"x" * reserved_bytes
        self._hits = metrics.cache.labels("hit")
        self._misses = metrics.cache.labels("miss")

    def get(self, rules: TextRules, body: str) -> bytes | None:
        """The vector of a body, if it is still there; None if not, or if the cache is off."""
        if self._vectors is None:
            return None
        vector = self._vectors.get(rules.fingerprint(body))
        (self._misses if vector is None else self._hits).inc()
        return vector

    def put(self, rules: TextRules, body: str, vector: bytes) -> None:
        """Keep an admitted vector."""
        if self._vectors is not None:
            self._vectors[rules.fingerprint(body)] = vector

    def clear(self) -> None:
        """Forget all of them."""
        if self._vectors is not None:
            self._vectors.clear()
