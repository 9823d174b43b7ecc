"""The queue of texts that wait for an embedder, and the windows that it forms of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connectors.embedders.batching.jobs import EmbeddingJob, PendingChunk
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint import Endpoint
from connectors.embedders.endpoint_pool import EndpointPool

_MIN_SWEEP = 4096


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """The limits of one window.

    Attributes:
        pages: The most texts.
        chars: The most characters.
        wait_s: How long a window may wait for more texts while an endpoint is free.
    """

    pages: int = 32
    chars: int = 100_000
    wait_s: float = 0.0


class BatchQueue:
    """A queue of texts, all prepared by the rules of one pool. Used on the event loop only.

    Args:
        pool: The pool that embeds the texts.

    Attributes:
        pool: The same pool, until `switch`.
    """

    def __init__(self, pool: EndpointPool) -> None:
        self.pool = pool
        self._chunks: deque[PendingChunk] = deque()
        self._held: list[EmbeddingJob[Any]] = []
        self._sweep_at = _MIN_SWEEP

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def oldest(self) -> EmbeddingJob[Any]:
        """The page of the text at the head."""
        return self._chunks[0].job

    @property
    def begins_with_isolated(self) -> bool:
        """Whether the text at the head is isolated, so that it is sent alone."""
        return self._chunks[0].chunk.is_isolated

    @property
    def held(self) -> int:
        """How many pages wait for the other pool."""
        return len(self._held)

    def add(self, job: EmbeddingJob[Any]) -> None:
        """Add a page at the end."""
        self._chunks.extend(self._prepare(job))

    def _prepare(self, job: EmbeddingJob[Any]) -> list[PendingChunk]:
        return job.split(self.pool.texts_of(job.text), self.pool.rules)

    def put_back(
        self, pool: EndpointPool, window: Sequence[PendingChunk], *, last: bool = False
    ) -> None:
        """Return the open texts of a window to the queue.

        Their pages are prepared again if another pool embeds now, or if the rules have changed.

        Args:
            pool: The pool that did not embed them.
            window: The texts.
            last: Whether they go to the end instead of the head.
        """
        chunks = [pending for pending in window if pending.is_open]
        is_same = pool is self.pool
        if not is_same or any(pending.chunk.rules is not pool.rules for pending in chunks):
            jobs = dict.fromkeys(pending.job for pending in chunks)
            chunks = [pending for job in jobs for pending in self._prepare(job)]
        if last:
            self._chunks.extend(chunks)
        else:
            self._chunks.extendleft(reversed(chunks))

    def hold(self, pool: EndpointPool, job: EmbeddingJob[Any]) -> None:
        """Keep a page that a pool refuses for the other pool."""
        job.chunks = []
        job.sent = False
        if pool is self.pool:
            self._held.append(job)
        else:
            self.add(job)

    def switch(self, pool: EndpointPool) -> list[EmbeddingJob[Any]]:
        """Let another pool embed, and return the pages that wait, each once and in order."""
        jobs = dict.fromkeys([*self._held, *(pending.job for pending in self._chunks)])
        self._held.clear()
        self._chunks.clear()
        self.pool = pool
        return [job for job in jobs if not job.dropped and job.refused is None]

    def sweep(self) -> None:
        """Remove dropped pages once they may be half of the queue.

        While an embedder is unavailable, every change of a page drops the one before it.
        """
        if len(self._chunks) < self._sweep_at:
            return
        self._chunks = deque(pending for pending in self._chunks if not pending.job.dropped)
        self._held = [job for job in self._held if not job.dropped]
        self._sweep_at = max(2 * len(self._chunks), _MIN_SWEEP)

    def close_window(self, endpoint: Endpoint, limits: WindowLimits) -> list[PendingChunk]:
        """Remove the next window for an endpoint from the queue; it may be empty."""
        window: list[PendingChunk] = []
        chars, cost = 0, 0
        # after a failure a single text is sent, because it may block until the timeout
        most = 1 if endpoint.failures else min(limits.pages, endpoint.client.max_texts)
        while self._chunks and len(window) < most:
            job, chunk = self._chunks[0].job, self._chunks[0].chunk
            if job.dropped or job.refused is not None:
                self._chunks.popleft()
                continue
            if chunk.is_isolated and (window or endpoint.in_flight):
                break
            chars += len(chunk.text)
            cost += cost_chars(chunk.text)
            is_full = chars > limits.chars or cost > endpoint.throughput.window_chars
            if window and is_full:
                break
            window.append(self._chunks.popleft())
            if chunk.is_isolated:
                break
        return window
