"""Gathers the texts of all workers into windows and has them embedded.

A window closes the moment an embedder has a free slot, so light load means windows of one text
and no waiting, heavy load full windows. Each endpoint has two requests in flight, one computing
and one queued behind it, so that it is never idle between two windows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from connectors import logs, pieces
from connectors.embedding import (
    BadVector,
    EmbeddingClient,
    ServerFacts,
    TextRules,
    TooLong,
    VectorCache,
)
from connectors.failures import PageRefused, ServiceError, SetupFault, Transient
from connectors.io_loop import IoLoop
from connectors.metrics import Metrics
from connectors.pace import Pace, cost_chars
from connectors.stalls import Stalls

IN_FLIGHT_PER_ENDPOINT = 2
SHORTEST_PIECE_CHARS = 200
"""A piece this short that is still too long for the model is not halved any more."""
FAULTS_BEFORE_ALONE = 3
"""A text whose windows failed so often goes alone, so that it does not take others along."""
FAULTS_BEFORE_REFUSAL = 8
FAULTY_FOR_S = 30.0
"""A text that has made the server fail so often and so long, alone, while the server takes a
plain word, is refused: it kills the model's process each time."""
SUSPICIOUS_REFUSALS = 20
"""So many pages refused in a row, and none taken, are believed to be the pages' fault only as
long as the embedder takes a plain word."""
_PASSING = frozenset({408, 425, 429, 499, 503})
"""Answers that speak of the server's state, whatever the text is."""
_FEWEST_TO_SWEEP = 4096
_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 5.0


class EmbedJob:
    """A page on its way through the embedder; done when `vector` or `refused` is set.

    Args:
        text: The page's text.
        finished: Called on the I/O loop when the job is done.

    Attributes:
        sent: Whether its text is, or was, in a request.
        dropped: Set by the owner: nobody wants it any more (heeded while it is not sent).
        vector: The vector as JSON text.
        refused: Why no embedder takes the page.
        model: The model that made the vector.
        owner: Whatever the owner wants to find it by.
    """

    __slots__ = (
        "dropped",
        "finished",
        "model",
        "owner",
        "parts",
        "refused",
        "sent",
        "since",
        "text",
        "vector",
    )

    def __init__(self, text: str, finished: Callable[[EmbedJob], None]) -> None:
        self.text = text
        self.finished = finished
        self.parts: list[_Part] = []
        self.sent = False
        self.dropped = False
        self.vector: bytes | None = None
        self.refused: str | None = None
        self.model = ""
        self.owner: Any = None
        self.since = time.monotonic()


@dataclass(slots=True, eq=False)
class _Part:
    """A text that goes into a window: a page, or a piece of a long one."""

    job: EmbedJob
    text: str
    vector: bytes | None = None
    faults: int = 0
    faulty_since: float = 0.0
    accused: bool = False

    def failed(self) -> None:
        self.faults += 1
        self.faulty_since = self.faulty_since or time.monotonic()

    @property
    def is_suspect(self) -> bool:
        return self.faults >= FAULTS_BEFORE_ALONE


@dataclass(slots=True)
class _Endpoint:
    client: EmbeddingClient
    index: int
    pace: Pace = field(default_factory=Pace)
    in_flight: int = 0
    in_flight_chars: int = 0
    faults: int = 0
    retry_at: float = 0.0
    free_since: float = 0.0  # when its latest answer came: the start of the next one's computing

    @property
    def slots(self) -> int:
        """How many requests it may have: one, as a trial, after a fault."""
        return 1 if self.faults else IN_FLIGHT_PER_ENDPOINT

    def load(self) -> tuple[bool, float, int]:
        """What to compare by: the least loaded of the sound endpoints comes first."""
        return self.faults > 0, self.pace.expected_s(self.in_flight_chars), self.in_flight

    def failed(self, error: Transient) -> None:
        self.faults += 1
        wait = min(_FIRST_WAIT_S * 2 ** min(self.faults - 1, 10), _LONGEST_WAIT_S)
        if error.retry_after_s is not None:
            wait = max(wait, error.retry_after_s)
        self.retry_at = time.monotonic() + wait * random.uniform(0.8, 1.2)


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


class Batcher:
    """The one place of a process where texts wait for an embedder.

    Args:
        clients: The embedder's endpoints.
        rules: How texts are prepared; `lowercase` may be corrected by what the server shows.
        detect_lowercase: Ask the server whether texts must be lower-cased.
        limits: The most that one window holds.
        cache: Vectors of the latest texts.
        io: The loop on which all of this happens.
        stalls: Where waiting is reported.
        metrics: Where windows are counted.
    """

    def __init__(
        self,
        clients: Sequence[EmbeddingClient],
        rules: TextRules,
        *,
        detect_lowercase: bool,
        limits: WindowLimits,
        cache: VectorCache,
        io: IoLoop,
        stalls: Stalls,
        metrics: Metrics,
    ) -> None:
        self._endpoints = [_Endpoint(client, n) for n, client in enumerate(clients)]
        self._wanted_rules = rules
        self._detect_lowercase = detect_lowercase
        self._limits = limits
        self._cache = cache
        self._io = io
        self._stalls = stalls
        self._metrics = metrics
        self._log = logs.get("embedder")
        self._queue_seconds = metrics.stage.labels("queue")
        self._embed_seconds = metrics.stage.labels("embed")
        self._in_flight = [metrics.embed_in_flight.labels(str(e.index)) for e in self._endpoints]
        self._waiting: deque[_Part] = deque()
        self._sweep_at = _FEWEST_TO_SWEEP
        self._wake_up: asyncio.TimerHandle | None = None
        self._started = False
        self._halted: Future[None] | None = None
        self._refused_in_a_row = 0
        self._piece_chars = pieces.chars_for(2048)
        self.rules: TextRules | None = None
        self.facts: ServerFacts | None = None

    def start(self) -> None:
        """Ask the embedder about its model, in the background; from any thread."""
        self._io.call(self._start)

    def submit(self, jobs: Sequence[EmbedJob]) -> None:
        """Take jobs; from any thread."""
        self._io.call(self._add, jobs)

    def halt(self) -> Future[None]:
        """Send no new window; the result comes when no request is in flight."""
        done: Future[None] = Future()
        self._io.call(self._halt, done)
        return done

    @property
    def waiting_texts(self) -> int:
        """Texts that wait for a window."""
        return len(self._waiting)

    def endpoints(self) -> list[tuple[str, int, int]]:
        """Name, requests in flight and faults in a row of each endpoint."""
        return [(e.client.name, e.in_flight, e.faults) for e in self._endpoints]

    # --- the rest runs on the I/O loop ---

    def _halt(self, done: Future[None]) -> None:
        if self._halted is None:
            self._halted = Future()
        self._halted.add_done_callback(lambda _: done.set_result(None))
        self._finish_halt()

    def _finish_halt(self) -> None:
        idle = not any(e.in_flight for e in self._endpoints)
        if self._halted is not None and idle and not self._halted.done():
            self._halted.set_result(None)

    def _start(self) -> None:
        if not self._started:
            self._started = True
            self._io.spawn(self._learn_rules())

    async def _learn_rules(self) -> None:
        """Ask the endpoints in turn until one has told what its model is like."""
        turn = 0
        while self._halted is None:
            endpoint = self._endpoints[turn % len(self._endpoints)]
            try:
                facts = await endpoint.client.check()
            except PageRefused as error:
                await self._wait_for(endpoint, Transient(error.detail))
            except Transient as error:
                await self._wait_for(endpoint, error)
            else:
                self._set_rules(facts)
                return
            turn += 1

    async def _wait_for(self, endpoint: _Endpoint, error: Transient) -> None:
        self._stalls.failed("embedder", error)
        endpoint.failed(error)
        pause = endpoint.retry_at - time.monotonic()
        await asyncio.sleep(pause / len(self._endpoints))

    def _set_rules(self, facts: ServerFacts) -> None:
        rules = self._wanted_rules
        if self._detect_lowercase and facts.capitals_defect:
            rules = rules.lowercased()
            self._log.warning(
                "texts are lower-cased: this server takes all words with capitals for the same",
                setting="EMBED_LOWERCASE",
            )
        if facts.context_tokens:
            self._piece_chars = pieces.chars_for(facts.context_tokens)
        self.facts, self.rules = facts, rules
        for endpoint in self._endpoints:
            endpoint.faults = 0
        self._stalls.cleared("embedder")
        waiting = [part.job for part in self._waiting]
        self._waiting.clear()
        self._add(waiting)

    def _add(self, jobs: Sequence[EmbedJob]) -> None:
        self._start()
        rules = self.rules
        for job in jobs:
            if rules is None:  # they wait as they are until it is known how to prepare them
                self._waiting.append(_Part(job, job.text))
                continue
            vector = self._cache.get(rules, job.text)
            if vector is not None:
                job.sent = True
                self._finish(job, vector)
                continue
            job.parts = [_Part(job, text) for text in self._texts(rules, job.text)]
            self._waiting.extend(job.parts)
        self._sweep()
        self._pump()

    def _sweep(self) -> None:
        """Let go of texts that nobody wants any more, once they may be half of what waits.

        While an embedder is away, a page that changes all the time leaves one with each change.
        """
        if len(self._waiting) < self._sweep_at:
            return
        self._waiting = deque(part for part in self._waiting if not part.job.dropped)
        self._sweep_at = max(2 * len(self._waiting), _FEWEST_TO_SWEEP)

    def _texts(self, rules: TextRules, body: str) -> list[str]:
        if rules.long_pages == "mean" and len(body) > self._piece_chars:
            return [rules.prepare(piece) for piece in pieces.split(body, self._piece_chars)]
        return [rules.prepare(body)]

    def _pump(self) -> None:
        """Fill windows as long as there are texts and free endpoints."""
        while self._waiting and self.rules is not None and self._halted is None:
            endpoint = self._free_endpoint()
            if endpoint is None or self._waits_for_company():
                return
            window = self._close_window(endpoint)
            if not window:
                return
            self._launch(endpoint, window)

    def _free_endpoint(self) -> _Endpoint | None:
        now = time.monotonic()
        free = [e for e in self._endpoints if e.in_flight < e.slots and e.retry_at <= now]
        if free:
            return min(free, key=_Endpoint.load)
        due = [e.retry_at for e in self._endpoints if e.in_flight < e.slots]
        if due:
            self._pump_in(min(due) - now)
        return None

    def _waits_for_company(self) -> bool:
        if not self._limits.wait_s or len(self._waiting) >= self._limits.pages:
            return False
        left = self._limits.wait_s - (time.monotonic() - self._waiting[0].job.since)
        if left > 0:
            self._pump_in(left)
        return left > 0

    def _pump_in(self, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + max(seconds, 0.001)
        if self._wake_up is not None:
            if self._wake_up.when() <= at:
                return
            self._wake_up.cancel()
        self._wake_up = self._io.call_at(at, self._woken)

    def _woken(self) -> None:
        self._wake_up = None
        self._pump()

    def _close_window(self, endpoint: _Endpoint) -> list[_Part]:
        window: list[_Part] = []
        chars, cost = 0, 0
        # after a fault one text is risked: it may hang for as long as the time-out allows
        most = 1 if endpoint.faults else min(self._limits.pages, endpoint.client.max_texts)
        while self._waiting and len(window) < most:
            part = self._waiting[0]
            if part.job.dropped or part.job.refused is not None:
                self._waiting.popleft()
                continue
            chars += len(part.text)
            cost += cost_chars(part.text)
            full = chars > self._limits.chars or cost > endpoint.pace.window_chars
            if window and (full or part.is_suspect):
                break
            window.append(self._waiting.popleft())
            if part.is_suspect:
                break
        return window

    def _launch(self, endpoint: _Endpoint, window: list[_Part]) -> None:
        now = time.monotonic()
        for part in window:
            if not part.job.sent:
                part.job.sent = True
                self._queue_seconds.observe(now - part.job.since)
        self._metrics.window_pages.observe(len(window))
        self._io.spawn(self._run(endpoint, window))
        cost = sum(cost_chars(p.text) for p in window)
        endpoint.in_flight += 1
        endpoint.in_flight_chars += cost
        self._in_flight[endpoint.index].set(endpoint.in_flight)

    async def _run(self, endpoint: _Endpoint, window: list[_Part]) -> None:
        cost = sum(cost_chars(p.text) for p in window)
        try:
            await self._embed(endpoint, window)
        except Transient as error:
            await self._failed(endpoint, window, error)
        else:
            endpoint.faults = 0
            self._stalls.cleared("embedder")
        finally:
            endpoint.in_flight -= 1
            endpoint.in_flight_chars -= cost
            self._in_flight[endpoint.index].set(endpoint.in_flight)
        self._finish_halt()
        self._pump()

    async def _failed(self, endpoint: _Endpoint, window: list[_Part], error: Transient) -> None:
        """Put a window back, at the head of the queue, for whichever endpoint is next."""
        endpoint.failed(error)
        left = [part for part in window if self._is_open(part)]
        if self._may_be_the_texts(error):
            for part in left:
                part.failed()
        if len(left) == 1 and left[0].is_suspect:
            await self._judge(endpoint, left[0], error)
        else:
            self._waiting.extendleft(reversed(left))
        self._report(endpoint, error)

    def _is_open(self, part: _Part) -> bool:
        """Whether a part still needs its vector, and was not replaced by its halves."""
        return part.vector is None and part.job.refused is None and part in part.job.parts

    def _may_be_the_texts(self, error: Transient) -> bool:
        """Whether it is an answer, not an absence, and none that has nothing to do with texts."""
        if isinstance(error, SetupFault):
            return False
        return error.status is not None and error.status not in _PASSING

    async def _judge(self, endpoint: _Endpoint, part: _Part, error: Transient) -> None:
        """Put a text that fails alone behind the others, or refuse it in the end.

        It is refused when it failed between two times at which a plain word did not: once is
        not enough, since the server may have recovered in that very moment.
        """
        lasting = time.monotonic() - part.faulty_since >= FAULTY_FOR_S
        sure = part.faults >= FAULTS_BEFORE_REFUSAL and lasting and await self._is_sound(endpoint)
        if sure and part.accused:
            self._refuse(part, f"the embedder fails each time that it is asked: {error.detail}")
        else:
            part.accused = sure
            self._waiting.append(part)

    async def _is_sound(self, endpoint: _Endpoint) -> bool:
        try:
            vectors = await endpoint.client.embed(["page"], timeout_s=30.0, truncate=True)
        except ServiceError:
            return False
        return vectors[0] is not None

    def _report(self, endpoint: _Endpoint, error: Transient) -> None:
        others = [e for e in self._endpoints if e is not endpoint and not e.faults]
        if not others:
            self._stalls.failed("embedder", error)
        else:
            self._metrics.retries.labels("embedder").inc()
            if endpoint.faults == 1:
                self._log.warning("left out", endpoint=endpoint.client.name, reason=error.detail)

    async def _embed(self, endpoint: _Endpoint, parts: list[_Part], *, again: bool = False) -> None:
        """Embed parts in one request, or, where one of them is refused, in halves."""
        try:
            vectors = await self._ask(endpoint, parts)
        except PageRefused as error:
            if len(parts) > 1:
                middle = len(parts) // 2
                await self._embed(endpoint, parts[:middle])
                await self._embed(endpoint, parts[middle:])
            elif isinstance(error, TooLong):
                await self._too_long(endpoint, parts[0], error)
            else:
                await self._refuse_unless_all_are(endpoint, parts[0], error.detail)
            return
        for part, vector in zip(parts, vectors, strict=True):
            if vector is not None:
                self._take(part, vector, endpoint.client)
            elif not again:
                await self._embed(endpoint, [part], again=True)
            else:
                detail = "the embedder makes no valid vector of it, asked twice"
                await self._refuse_unless_all_are(endpoint, part, detail)

    async def _ask(self, endpoint: _Endpoint, parts: list[_Part]) -> list[bytes | None]:
        cost = sum(cost_chars(p.text) for p in parts)
        timeout_s = endpoint.pace.timeout_s(cost, endpoint.in_flight_chars - cost)
        truncate = self.rules is not None and self.rules.long_pages == "truncate"
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

    async def _too_long(self, endpoint: _Endpoint, part: _Part, error: TooLong) -> None:
        """Halve a piece that does not fit the model's context, or refuse its page."""
        job, rule = part.job, self.rules.long_pages if self.rules else "refuse"
        if rule == "refuse":  # as was wished, and however many there are
            self._refuse(part, error.detail)
        elif len(part.text) < SHORTEST_PIECE_CHARS:
            await self._refuse_unless_all_are(endpoint, part, error.detail)
        else:
            halves = pieces.split(part.text, len(part.text) // 2 + 1)
            if rule == "truncate":  # a server that cannot truncate by itself
                del halves[1:]
            place = job.parts.index(part)
            job.parts[place : place + 1] = new = [_Part(job, text) for text in halves]
            self._waiting.extendleft(reversed(new))

    async def _refuse_unless_all_are(self, endpoint: _Endpoint, part: _Part, detail: str) -> None:
        if part.job.refused is not None:
            return
        suspicious = self._refused_in_a_row >= SUSPICIOUS_REFUSALS
        if suspicious and not await self._is_sound(endpoint):
            raise SetupFault(
                f"the embedder refuses every page: {detail}",
                remedy="check EMBED_MODEL and EMBED_URL; the pages wait",
            )
        self._refused_in_a_row += 1
        self._refuse(part, detail)

    def _refuse(self, part: _Part, detail: str) -> None:
        if part.job.refused is None:
            part.job.refused = detail
            part.job.finished(part.job)

    def _take(self, part: _Part, vector: bytes, client: EmbeddingClient) -> None:
        self._refused_in_a_row = 0
        part.vector = vector
        job = part.job
        if job.refused is not None or any(p.vector is None for p in job.parts):
            return
        job.model = client.model
        if len(job.parts) == 1:
            self._finish(job, vector)
            return
        try:
            mean = pieces.mean(
                [p.vector for p in job.parts if p.vector], [len(p.text) for p in job.parts]
            )
        except BadVector as error:
            self._refuse(part, f"the mean of its pieces is no vector: {error}")
        else:
            self._finish(job, mean)

    def _finish(self, job: EmbedJob, vector: bytes) -> None:
        if self.rules is not None:
            self._cache.put(self.rules, job.text, vector)
            job.model = job.model or self.rules.model
        job.vector = vector
        job.parts = []  # they point back at it: in a cycle its vector would wait for the collector
        job.finished(job)
