"""Gets the vectors of a window, and judges what failed: whose fault it is, and what follows.

A request that is refused is asked for again in halves, until the page is found that is refused
alone, twice. A text that makes the server fail each time, alone, is refused in the end.
"""

from __future__ import annotations

import time

from connectors.core.errors import PageRefused, ServiceError, SetupFault, Transient
from connectors.embedders import chunking
from connectors.embedders.base import BadVector, TooLong
from connectors.embedders.batching.batch_queue import WaitingTexts
from connectors.embedders.batching.jobs import Part
from connectors.embedders.batching.throughput import cost_chars
from connectors.embedders.endpoint_pool import Endpoint
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


class Judge:
    """Asks endpoints for windows; ends each page, or puts its texts back into the queue.

    Used on the I/O loop only.

    Args:
        waiting: The queue.
        metrics: Where the time of requests is observed.
    """

    def __init__(self, waiting: WaitingTexts, metrics: Metrics) -> None:
        self._waiting = waiting
        self._embed_seconds = metrics.stage.labels("embed")
        self._refused_in_a_row = 0
        self._log = logs.get("embedder")

    async def embed(self, endpoint: Endpoint, parts: list[Part], *, again: bool = False) -> None:
        """Embed parts in one request, or, where one of them is refused, in halves.

        One that is refused alone is asked for again: the client has asked for a plain word in
        between, and what refused everything may have ended just before that.

        Raises:
            Transient: The endpoint failed; parts without a vector are for `failed`.
        """
        try:
            vectors = await self._ask(endpoint, parts)
        except PageRefused as error:
            if len(parts) > 1:
                middle = len(parts) // 2
                await self.embed(endpoint, parts[:middle])
                await self.embed(endpoint, parts[middle:])
            elif not parts[0].is_open:
                pass  # another provider has its page by now
            elif not again:
                await self.embed(endpoint, parts, again=True)
            elif isinstance(error, TooLong):
                await self._too_long(endpoint, parts[0], error)
            else:
                await self._refuse_unless_all_are(endpoint, parts[0], error.detail)
            return
        for part, vector in zip(parts, vectors, strict=True):
            if vector is not None:
                self._take(endpoint, part, vector)
            elif not part.is_open:
                continue
            elif not again:
                await self.embed(endpoint, [part], again=True)
            else:
                detail = "the embedder makes no valid vector of it, asked twice"
                await self._refuse_unless_all_are(endpoint, part, detail)

    async def failed(self, endpoint: Endpoint, window: list[Part], error: Transient) -> None:
        """Put a window back, at the head of the queue, for whichever endpoint is next."""
        left = [part for part in window if part.is_open]
        if _may_be_the_texts(error):
            for part in left:
                part.failed()
        if len(left) == 1 and left[0].is_suspect:
            await self._judge(endpoint, left[0], error)
        else:
            self._waiting.put_back(endpoint.provider, left)

    async def _judge(self, endpoint: Endpoint, part: Part, error: Transient) -> None:
        """Put a text that fails alone behind the others, or refuse it in the end.

        It is refused when it failed between two times at which a plain word did not: once is
        not enough, since the server may have recovered in that very moment.
        """
        lasting = time.monotonic() - part.faulty_since >= FAULTY_FOR_S
        sure = part.faults >= FAULTS_BEFORE_REFUSAL and lasting and await _is_sound(endpoint)
        if sure and part.accused:
            detail = f"the embedder fails each time that it is asked: {error.detail}"
            self._refuse(endpoint, part, detail)
        else:
            part.accused = sure
            self._waiting.put_back(endpoint.provider, [part], last=True)

    async def _ask(self, endpoint: Endpoint, parts: list[Part]) -> list[bytes | None]:
        cost = sum(cost_chars(p.text) for p in parts)
        timeout_s = endpoint.pace.timeout_s(cost, endpoint.in_flight_chars - cost)
        truncate = _long_pages(endpoint) == "truncate"
        started = time.monotonic()
        try:
            vectors = await endpoint.client.embed(
                [p.text for p in parts], timeout_s=timeout_s, truncate=truncate
            )
        except Transient:
            # of several, a single one comes next, which tells how long one takes
            if time.monotonic() - started >= timeout_s * 0.99 and len(parts) == 1:
                endpoint.pace.timed_out()
            raise
        ended = time.monotonic()
        # behind another window its own computing began when that one was answered
        endpoint.pace.learn(cost, ended - max(started, endpoint.free_since))
        endpoint.free_since = ended
        self._embed_seconds.observe(ended - started)
        return vectors

    async def _too_long(self, endpoint: Endpoint, part: Part, error: TooLong) -> None:
        """Halve a piece that does not fit the model's context, or refuse its page."""
        rule = _long_pages(endpoint)
        if rule == "refuse":  # as was wished, and however many there are
            self._refuse(endpoint, part, error.detail)
        elif len(part.text) < SHORTEST_PIECE_CHARS:
            await self._refuse_unless_all_are(endpoint, part, error.detail)
        else:
            halves = chunking.split(part.text, len(part.text) // 2 + 1)
            if rule == "truncate":  # a server that cannot truncate by itself
                del halves[1:]
            self._waiting.put_back(endpoint.provider, part.replace(halves))

    async def _refuse_unless_all_are(self, endpoint: Endpoint, part: Part, detail: str) -> None:
        suspicious = self._refused_in_a_row >= SUSPICIOUS_REFUSALS
        if suspicious and not await _is_sound(endpoint):
            raise SetupFault(
                f"the embedder refuses every page: {detail}",
                remedy=f"check {endpoint.provider.chosen_by}; the pages wait",
            )
        self._refused_in_a_row += 1
        self._refuse(endpoint, part, detail)

    def _refuse(self, endpoint: Endpoint, part: Part, detail: str) -> None:
        """End a page without a vector; what the fallback refuses, the primary has to judge."""
        if not part.is_open:
            return
        if endpoint.provider.stands_in:
            if not self._waiting.held:
                self._log.warning("the fallback refuses a page: it waits", reason=detail)
            self._waiting.hold(endpoint.provider, part.job)
        else:
            part.job.refuse(detail)

    def _take(self, endpoint: Endpoint, part: Part, vector: bytes) -> None:
        self._refused_in_a_row = 0
        if not part.is_open:
            return
        part.vector = vector
        job = part.job
        if any(p.vector is None for p in job.parts):
            return
        if len(job.parts) > 1:
            try:
                vector = chunking.mean(
                    [p.vector for p in job.parts if p.vector], [len(p.text) for p in job.parts]
                )
            except BadVector as error:
                part.vector = None
                self._refuse(endpoint, part, f"the mean of its pieces is no vector: {error}")
                return
        provider = endpoint.provider
        provider.remember(job.text, vector)
        provider.pages += 1
        job.end_with(vector, endpoint.client.model, other_space=provider.stands_in)


def _may_be_the_texts(error: Transient) -> bool:
    """Whether it is an answer, not an absence, and none that has nothing to do with texts."""
    if isinstance(error, SetupFault):
        return False
    return error.status is not None and error.status not in _PASSING


def _long_pages(endpoint: Endpoint) -> str:
    rules = endpoint.provider.rules
    return rules.long_pages if rules else "refuse"


async def _is_sound(endpoint: Endpoint) -> bool:
    try:
        vectors = await endpoint.client.embed(["page"], timeout_s=30.0, truncate=True)
    except ServiceError:
        return False
    return vectors[0] is not None
