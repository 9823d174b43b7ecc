"""Decides whether a text or the embedder caused a failed request.

A request that is refused is split in half repeatedly, until the text that the embedder refuses is
alone in its request. A text whose requests fail again and again is isolated: it is sent alone. The
text is the cause if the embedder accepts a canary in between.
"""

from __future__ import annotations

import time

from connectors.core.errors import (
    ConfigurationError,
    RejectedError,
    RetryableError,
    ServiceError,
)
from connectors.embedders import chunking
from connectors.embedders.admission import InvalidVectorError
from connectors.embedders.base import TextTooLongError
from connectors.embedders.base_client import CANARY_TEXT
from connectors.embedders.batching.batch_queue import BatchQueue
from connectors.embedders.batching.jobs import PendingChunk
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint import Endpoint
from connectors.observability import logs
from connectors.observability.metrics import Metrics

MIN_SPLIT_CHARS = 200
"""A shorter text that exceeds the model's context is refused instead of split."""
FAILURES_BEFORE_REFUSAL = 8
"""This many requests of a text must fail before the text can be the cause."""
MIN_FAILING_S = 30.0
"""Its requests must fail for this long; a server that restarts recovers sooner."""
REFUSALS_BEFORE_CANARY = 20
"""After this many consecutive refused pages, pages are the cause only if a canary is accepted."""
CANARY_TIMEOUT_S = 30.0
_SERVER_STATUSES = frozenset({408, 425, 429, 499, 503})
"""Statuses that describe the state of the server, whatever the text is."""


class WindowErrorAttribution:
    """Embeds windows, and attributes each failure to a text or to the embedder.

    A page is finished by its vector or its refusal; any other text returns to the queue. Used on
    the event loop only.

    Args:
        queue: The queue that texts return to.
        metrics: Counts the seconds of requests.
        min_failing_s: How long the requests of a text must fail before it can be the cause.
    """

    def __init__(
        self, queue: BatchQueue, metrics: Metrics, min_failing_s: float = MIN_FAILING_S
    ) -> None:
        self._queue = queue
        self._embed_seconds = metrics.stage.labels("embed")
        self._min_failing_s = min_failing_s
        self._refused_in_a_row = 0
        self._log = logs.get("embedder")

    async def embed(
        self, endpoint: Endpoint, window: list[PendingChunk], *, is_retry: bool = False
    ) -> None:
        """Embed texts in one request, or in halves if the embedder refuses one of them.

        A text that is refused alone is sent once more: whatever refused every text may have ended
        just before the client sent its canary.

        Raises:
            RetryableError: The request failed. Pass the window to `window_failed`.
        """
        try:
            vectors = await self._request(endpoint, window)
        except RejectedError as error:
            await self._window_refused(endpoint, window, error, is_retry=is_retry)
            return
        for pending, vector in zip(window, vectors, strict=True):
            if vector is not None:
                self._accept(endpoint, pending, vector)
            elif not pending.is_open:
                continue
            elif not is_retry:
                await self.embed(endpoint, [pending], is_retry=True)
            else:
                detail = "the embedder made no valid vector of it in two requests"
                await self._refuse_if_canary_passes(endpoint, pending, detail)

    async def _request(self, endpoint: Endpoint, window: list[PendingChunk]) -> list[bytes | None]:
        texts = [pending.chunk.text for pending in window]
        cost = sum(map(cost_chars, texts))
        timeout_s = endpoint.throughput.timeout_s(cost, endpoint.in_flight_chars - cost)
        truncate = _long_pages(endpoint) == "truncate"
        started = time.monotonic()
        try:
            vectors = await endpoint.client.embed(texts, timeout_s=timeout_s, truncate=truncate)
        except RetryableError:
            # only a single text shows how long one text takes
            if time.monotonic() - started >= timeout_s * 0.99 and len(texts) == 1:
                endpoint.throughput.timed_out()
            raise
        ended = time.monotonic()
        # the server began this window when it had responded to the previous one
        endpoint.throughput.learn(cost, ended - max(started, endpoint.responded_at))
        endpoint.responded_at = ended
        self._embed_seconds.observe(ended - started)
        return vectors

    async def _window_refused(
        self,
        endpoint: Endpoint,
        window: list[PendingChunk],
        error: RejectedError,
        *,
        is_retry: bool,
    ) -> None:
        if len(window) > 1:
            middle = len(window) // 2
            await self.embed(endpoint, window[:middle])
            await self.embed(endpoint, window[middle:])
        elif not window[0].is_open:
            return  # another pool embeds its page now
        elif not is_retry:
            await self.embed(endpoint, window, is_retry=True)
        elif isinstance(error, TextTooLongError):
            await self._shorten(endpoint, window[0], error)
        else:
            await self._refuse_if_canary_passes(endpoint, window[0], error.detail)

    async def window_failed(
        self, endpoint: Endpoint, window: list[PendingChunk], error: RetryableError
    ) -> None:
        """Return a window to the head of the queue; an isolated text may be the cause instead."""
        still_open = [pending for pending in window if pending.is_open]
        if _may_be_caused_by_text(error):
            for pending in still_open:
                pending.chunk.count_failure()
        if len(still_open) == 1 and still_open[0].chunk.is_isolated:
            await self._isolated_text_failed(endpoint, still_open[0], error)
        else:
            self._queue.put_back(endpoint.pool, still_open)

    async def _isolated_text_failed(
        self, endpoint: Endpoint, pending: PendingChunk, error: RetryableError
    ) -> None:
        """Refuse a text that failed between two accepted canaries, or queue it behind the others.

        One canary is not enough: the server may have recovered just before it.
        """
        chunk = pending.chunk
        passed = (
            chunk.failures >= FAILURES_BEFORE_REFUSAL
            and time.monotonic() - chunk.failing_since >= self._min_failing_s
            and await _canary_passes(endpoint)
        )
        if passed and chunk.canary_passed:
            detail = f"the embedder fails whenever it receives this text: {error.detail}"
            self._refuse(endpoint, pending, detail)
        else:
            chunk.canary_passed = passed
            self._queue.put_back(endpoint.pool, [pending], last=True)

    async def _shorten(
        self, endpoint: Endpoint, pending: PendingChunk, error: TextTooLongError
    ) -> None:
        """Split a text that exceeds the model's context, or refuse its page."""
        rule, text = _long_pages(endpoint), pending.chunk.text
        if rule == "refuse":
            self._refuse(endpoint, pending, error.detail)
        elif len(text) < MIN_SPLIT_CHARS:
            await self._refuse_if_canary_passes(endpoint, pending, error.detail)
        else:
            halves = chunking.split_text(text, len(text) // 2 + 1)
            if rule == "truncate":  # this server does not truncate
                del halves[1:]
            self._queue.put_back(endpoint.pool, pending.replace_with(halves))

    async def _refuse_if_canary_passes(
        self, endpoint: Endpoint, pending: PendingChunk, detail: str
    ) -> None:
        needs_canary = self._refused_in_a_row >= REFUSALS_BEFORE_CANARY
        if needs_canary and not await _canary_passes(endpoint):
            raise ConfigurationError(
                f"the embedder refuses every page: {detail}",
                remedy=f"check {endpoint.pool.chosen_by}; the pages wait",
            )
        self._refused_in_a_row += 1
        self._refuse(endpoint, pending, detail)

    def _refuse(self, endpoint: Endpoint, pending: PendingChunk, detail: str) -> None:
        """End a page without a vector; a page that the fallback refuses waits for the primary."""
        if not pending.is_open:
            return
        if endpoint.pool.is_fallback:
            if not self._queue.held:
                self._log.warning(
                    "the fallback refuses a page: the page waits for the embedder", reason=detail
                )
            self._queue.hold(endpoint.pool, pending.job)
        else:
            pending.job.refuse(detail)

    def _accept(self, endpoint: Endpoint, pending: PendingChunk, vector: bytes) -> None:
        self._refused_in_a_row = 0
        if not pending.is_open:
            return
        pending.chunk.vector = vector
        job, pool = pending.job, endpoint.pool
        if len(job.chunks) > 1:
            mean = self._mean_vector(endpoint, pending)
            if mean is None:
                return
            vector = mean
        pool.cache_vector(job.text, vector)
        pool.pages += 1
        job.complete(vector, endpoint.client.model, other_space=pool.is_fallback)

    def _mean_vector(self, endpoint: Endpoint, pending: PendingChunk) -> bytes | None:
        """Return the vector of a long page; None while a chunk has none, or if it is refused."""
        chunks = pending.job.chunks
        vectors = [chunk.vector for chunk in chunks if chunk.vector is not None]
        if len(vectors) < len(chunks):
            return None
        try:
            return chunking.mean_vector(vectors, [len(chunk.text) for chunk in chunks])
        except InvalidVectorError as error:
            pending.chunk.vector = None
            self._refuse(
                endpoint, pending, f"the mean of its chunks is not a valid vector: {error}"
            )
            return None


def _may_be_caused_by_text(error: RetryableError) -> bool:
    """Return whether the server has responded with an error that a text can cause."""
    if isinstance(error, ConfigurationError):
        return False
    return error.status is not None and error.status not in _SERVER_STATUSES


def _long_pages(endpoint: Endpoint) -> str:
    rules = endpoint.pool.rules
    return rules.long_pages if rules else "refuse"


async def _canary_passes(endpoint: Endpoint) -> bool:
    try:
        vectors = await endpoint.client.embed(
            [CANARY_TEXT], timeout_s=CANARY_TIMEOUT_S, truncate=True
        )
    except ServiceError:
        return False
    return vectors[0] is not None
