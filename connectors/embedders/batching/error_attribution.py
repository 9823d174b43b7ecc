"""Gets the vectors of a window, and judges what failed: whose fault it is, and what follows.

A request that is refused is asked for again in halves, until the page is found that is refused
alone, twice. A text that makes the server fail each time, alone, is refused in the end.
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
from connectors.embedders.batching.batch_queue import BatchQueue
from connectors.embedders.batching.jobs import Chunk
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint import Endpoint
from connectors.observability import logs
from connectors.observability.metrics import Metrics

SHORTEST_PIECE_CHARS = 200
"""A piece this short that is still too long for the model is not halved any more."""
FAULTS_BEFORE_REFUSAL = 8
FAULTY_FOR_S = 30.0
"""A text that has made the server fail so often and so long, alone, while the server takes a
plain word, is refused: it kills the model's process each time."""
SUSPICIOUS_REFUSALS = 20
"""So many pages refused in a row, and none taken, are believed to be the pages' fault only as
long as the embedder takes a plain word."""
_PASSING = frozenset({408, 425, 429, 499, 503})
"""Answers that speak of the server's state, whatever the text is."""


class WindowErrorAttribution:
    """Asks endpoints for windows; ends each page, or puts its texts back into the queue.

    Used on the event loop only.

    Args:
        waiting: The queue.
        metrics: Where the time of requests is observed.
    """

    def __init__(self, waiting: BatchQueue, metrics: Metrics) -> None:
        self._waiting = waiting
        self._embed_seconds = metrics.stage.labels("embed")
        self._refused_in_a_row = 0
        self._log = logs.get("embedder")

    async def embed(self, endpoint: Endpoint, chunks: list[Chunk], *, again: bool = False) -> None:
        """Embed chunks in one request, or, where one of them is refused, in halves.

        One that is refused alone is asked for again: the client has asked for a plain word in
        between, and what refused everything may have ended just before that.

        Raises:
            TransientError: The endpoint failed; chunks without a vector are for `failed`.
        """
        try:
            vectors = await self._ask(endpoint, chunks)
        except RejectedError as error:
            if len(chunks) > 1:
                middle = len(chunks) // 2
                await self.embed(endpoint, chunks[:middle])
                await self.embed(endpoint, chunks[middle:])
            elif not chunks[0].is_open:
                pass  # another pool has its page by now
            elif not again:
                await self.embed(endpoint, chunks, again=True)
            elif isinstance(error, TextTooLongError):
                await self._too_long(endpoint, chunks[0], error)
            else:
                await self._refuse_unless_all_are(endpoint, chunks[0], error.detail)
            return
        for chunk, vector in zip(chunks, vectors, strict=True):
            if vector is not None:
                self._take(endpoint, chunk, vector)
            elif not chunk.is_open:
                continue
            elif not again:
                await self.embed(endpoint, [chunk], again=True)
            else:
                detail = "the embedder makes no valid vector of it, asked twice"
                await self._refuse_unless_all_are(endpoint, chunk, detail)

    async def failed(self, endpoint: Endpoint, window: list[Chunk], error: RetryableError) -> None:
        """Put a window back, at the head of the queue, for whichever endpoint is next."""
        left = [chunk for chunk in window if chunk.is_open]
        if _may_be_the_texts(error):
            for chunk in left:
                chunk.failed()
        if len(left) == 1 and left[0].is_isolated:
            await self._judge(endpoint, left[0], error)
        else:
            self._waiting.put_back(endpoint.pool, left)

    async def _judge(self, endpoint: Endpoint, chunk: Chunk, error: RetryableError) -> None:
        """Put a text that fails alone behind the others, or refuse it in the end.

        It is refused when it failed between two times at which a plain word did not: once is
        not enough, since the server may have recovered in that very moment.
        """
        lasting = time.monotonic() - chunk.failing_since >= FAULTY_FOR_S
        sure = chunk.faults >= FAULTS_BEFORE_REFUSAL and lasting and await _canary_passes(endpoint)
        if sure and chunk.canary_passed:
            detail = f"the embedder fails each time that it is asked: {error.detail}"
            self._refuse(endpoint, chunk, detail)
        else:
            chunk.canary_passed = sure
            self._waiting.put_back(endpoint.pool, [chunk], last=True)

    async def _ask(self, endpoint: Endpoint, chunks: list[Chunk]) -> list[bytes | None]:
        cost = sum(cost_chars(p.text) for p in chunks)
        timeout_s = endpoint.throughput.timeout_s(cost, endpoint.in_flight_chars - cost)
        truncate = _long_pages(endpoint) == "truncate"
        started = time.monotonic()
        try:
            vectors = await endpoint.client.embed(
                [p.text for p in chunks], timeout_s=timeout_s, truncate=truncate
            )
        except RetryableError:
            # of several, a single one comes next, which tells how long one takes
            if time.monotonic() - started >= timeout_s * 0.99 and len(chunks) == 1:
                endpoint.throughput.timed_out()
            raise
        ended = time.monotonic()
        # behind another window its own computing began when that one was answered
        endpoint.throughput.learn(cost, ended - max(started, endpoint.free_since))
        endpoint.free_since = ended
        self._embed_seconds.observe(ended - started)
        return vectors

    async def _too_long(self, endpoint: Endpoint, chunk: Chunk, error: TextTooLongError) -> None:
        """Halve a piece that does not fit the model's context, or refuse its page."""
        rule = _long_pages(endpoint)
        if rule == "refuse":  # as was wished, and however many there are
            self._refuse(endpoint, chunk, error.detail)
        elif len(chunk.text) < SHORTEST_PIECE_CHARS:
            await self._refuse_unless_all_are(endpoint, chunk, error.detail)
        else:
            halves = chunking.split_text(chunk.text, len(chunk.text) // 2 + 1)
            if rule == "truncate":  # a server that cannot truncate by itself
                del halves[1:]
            self._waiting.put_back(endpoint.pool, chunk.replace(halves))

    async def _refuse_unless_all_are(self, endpoint: Endpoint, chunk: Chunk, detail: str) -> None:
        suspicious = self._refused_in_a_row >= SUSPICIOUS_REFUSALS
        if suspicious and not await _canary_passes(endpoint):
            raise ConfigurationError(
                f"the embedder refuses every page: {detail}",
                remedy=f"check {endpoint.pool.chosen_by}; the pages wait",
            )
        self._refused_in_a_row += 1
        self._refuse(endpoint, chunk, detail)

    def _refuse(self, endpoint: Endpoint, chunk: Chunk, detail: str) -> None:
        """End a page without a vector; what the fallback refuses, the primary has to judge."""
        if not chunk.is_open:
            return
        if endpoint.pool.is_fallback:
            if not self._waiting.held:
                self._log.warning("the fallback refuses a page: it waits", reason=detail)
            self._waiting.hold(endpoint.pool, chunk.job)
        else:
            chunk.job.refuse(detail)

    def _take(self, endpoint: Endpoint, chunk: Chunk, vector: bytes) -> None:
        self._refused_in_a_row = 0
        if not chunk.is_open:
            return
        chunk.vector = vector
        job = chunk.job
        if any(p.vector is None for p in job.chunks):
            return
        if len(job.chunks) > 1:
            try:
                vector = chunking.mean_vector(
                    [p.vector for p in job.chunks if p.vector], [len(p.text) for p in job.chunks]
                )
            except InvalidVectorError as error:
                chunk.vector = None
                self._refuse(endpoint, chunk, f"the mean of its pieces is no vector: {error}")
                return
        pool = endpoint.pool
        pool.remember(job.text, vector)
        pool.pages += 1
        job.end_with(vector, endpoint.client.model, other_space=pool.is_fallback)


def _may_be_the_texts(error: RetryableError) -> bool:
    """Whether it is an answer, not an absence, and none that has nothing to do with texts."""
    if isinstance(error, ConfigurationError):
        return False
    return error.status is not None and error.status not in _PASSING


def _long_pages(endpoint: Endpoint) -> str:
    rules = endpoint.pool.rules
    return rules.long_pages if rules else "refuse"


async def _canary_passes(endpoint: Endpoint) -> bool:
    try:
        vectors = await endpoint.client.embed(["page"], timeout_s=30.0, truncate=True)
    except ServiceError:
        return False
    return vectors[0] is not None
