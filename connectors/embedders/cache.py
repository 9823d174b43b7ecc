"""The cache of the latest vectors."""

from __future__ import annotations

from cachetools import LRUCache

from connectors.embedders.text_rules import TextRules
from connectors.observability.metrics import Metrics


class VectorCache:
    """The latest vectors by text and rules; it drops the least recently used one first.

    Used on the event loop only. The keys are digests, so that the memory depends on the vectors
    alone: 768 numbers take 9.5 KB as Ollama writes them, and 16 KB if they had to be normalised.

    Args:
        pages: How many vectors the cache holds; 0 switches it off.
        metrics: Counts hits and misses.
    """

    def __init__(self, pages: int, metrics: Metrics) -> None:
        self._vectors: LRUCache[bytes, bytes] | None = LRUCache(pages) if pages > 0 else None
        self._hits = metrics.cache.labels("hit")
        self._misses = metrics.cache.labels("miss")

    def get(self, rules: TextRules, body: str) -> bytes | None:
        """Return the vector of a body; None if the cache does not hold it, or is off."""
        if self._vectors is None:
            return None
        vector = self._vectors.get(rules.fingerprint(body))
        (self._misses if vector is None else self._hits).inc()
        return vector

    def put(self, rules: TextRules, body: str, vector: bytes) -> None:
        """Keep the vector of a body."""
        if self._vectors is not None:
            self._vectors[rules.fingerprint(body)] = vector

    def clear(self) -> None:
        """Drop all vectors."""
        if self._vectors is not None:
            self._vectors.clear()
