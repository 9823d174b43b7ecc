"""The texts that wait for an embedder, and the windows that are made of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.embedders.batching.jobs import EmbeddingJob, PendingChunk
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint import Endpoint
from connectors.embedders.endpoint_pool import EndpointPool

_FEWEST_TO_SWEEP = 4096


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """The most that one window holds.

    Attributes:
        pages: Texts.
        chars: Characters.
        wait_s: How long a window may wait for company while an embedder is free.
    """

    pages: int = 32
    chars: int = 100_000
    wait_s: float = 0.0


class BatchQueue:
    """A queue of texts, all prepared for one pool, by its rules; used on the event loop only.

    Args:
        pool: Who is to embed them.

    Attributes:
        pool: The same; `switch` changes it.
    """

    def __init__(self, pool: EndpointPool) -> None:
        self.pool = pool
        self._chunks: deque[PendingChunk] = deque()
        self._held: list[EmbeddingJob[Any]] = []
        self._sweep_at = _FEWEST_TO_SWEEP

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def oldest(self) -> EmbeddingJob[Any]:
        """The page whose text is at the head."""
        return self._chunks[0].job

    @property
    def begins_with_isolated(self) -> bool:
        """Whether the text at the head may make the server fail: it goes with no other."""
        return self._chunks[0].chunk.is_isolated

    @property
    def held(self) -> int:
        """Pages that wait for another pool than the present one."""
        return len(self._held)

    def add(self, job: EmbeddingJob[Any]) -> None:
        """Take a page, behind the others."""
        self._chunks.extend(self._prepared(job))

    def _prepared(self, job: EmbeddingJob[Any]) -> list[PendingChunk]:
        return job.split(self.pool.texts_of(job.text), self.pool.rules)

    def put_back(
        self, pool: EndpointPool, window: Sequence[PendingChunk], *, last: bool = False
    ) -> None:
        """Take texts back that a pool was asked for, at the head, or behind the others.

        Where another one has taken over meanwhile, or the rules have changed, their pages are
        prepared anew.
        """
        chunks = [pending for pending in window if pending.is_open]
        is_same = pool is self.pool
        if not is_same or any(pending.chunk.rules is not pool.rules for pending in chunks):
            jobs = dict.fromkeys(pending.job for pending in chunks)
            chunks = [pending for job in jobs for pending in self._prepared(job)]
        if last:
            self._chunks.extend(chunks)
        else:
            self._chunks.extendleft(reversed(chunks))

    def hold(self, pool: EndpointPool, job: EmbeddingJob[Any]) -> None:
        """Keep a page that a pool refuses for the other one."""
        job.chunks = []
        job.sent = False
        if pool is self.pool:
            self._held.append(job)
        else:
            self.add(job)

    def switch(self, pool: EndpointPool) -> list[EmbeddingJob[Any]]:
        """Let another pool embed; returns what has waited, each page once and in order."""
        jobs = dict.fromkeys([*self._held, *(chunk.job for chunk in self._chunks)])
        self._held.clear()
        self._chunks.clear()
        self.pool = pool
        return [job for job in jobs if not job.dropped and job.refused is None]

    def sweep(self) -> None:
        """Let go of texts that nobody wants any more, once they may be half of what waits.

        While an embedder is away, a page that changes all the time leaves one with each change.
        """
        if len(self._chunks) < self._sweep_at:
            return
        self._chunks = deque(chunk for chunk in self._chunks if not chunk.job.dropped)
        self._held = [job for job in self._held if not job.dropped]
        self._sweep_at = max(2 * len(self._chunks), _FEWEST_TO_SWEEP)

    def close_window(self, endpoint: Endpoint, limits: WindowLimits) -> list[PendingChunk]:
        """Take a window for an endpoint: empty where nobody wants what is left."""
        window: list[PendingChunk] = []
        chars, cost = 0, 0
        # after a fault one text is risked: it may hang for as long as the time-out allows
        most = 1 if endpoint.faults else min(limits.pages, endpoint.client.max_texts)
        while self._chunks and len(window) < most:
            job, chunk = self._chunks[0].job, self._chunks[0].chunk
            if job.dropped or job.refused is not None:
                self._chunks.popleft()
                continue
            if chunk.is_isolated and (window or endpoint.in_flight):
                break
            chars += len(chunk.text)
            cost += cost_chars(chunk.text)
            full = chars > limits.chars or cost > endpoint.throughput.window_chars
            if window and full:
                break
            window.append(self._chunks.popleft())
            if chunk.is_isolated:
                break
        return window
