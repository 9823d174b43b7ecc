"""Notifications to the RAG service: the one output that the stream can give up on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import orjson

from connectors.core.errors import (
    ConfigurationError,
    RejectedError,
    Rejection,
    RetryableError,
    TransientError,
)
from connectors.core.records import PageVector
from connectors.http.address import address_of
from connectors.http.circuit_breaker import CircuitBreaker
from connectors.http.client import HttpClient
from connectors.http.response import Response
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls

SERVICE = "rag"
UNREACHABLE = "rag-unreachable"
REFUSED = "refused-by-rag"

BUSY = 429
"""Too busy is not dead: it counts against the service only where patience does not help."""

TRIES = 3
FIRST_PAUSE_S = 0.25
"""Before the second try; three times as long before the third."""

FIRST_PROBE_S = 2.0
LONGEST_PROBE_S = 15.0
"""Between probes of a service that is given up for now, growing from the first to the second."""


class RagNotifier:
    """Tells the RAG service of new vectors by `POST RAG_REFRESH_URL {"page_id","vector"}`.

    Delivery: at least once, or a refusal, which becomes a dead letter. A service that is dead or
    hangs costs the stream one time limit, not one a page: after consecutive failures the circuit
    opens and notifications are refused at once, without a request. Whenever one was given up, the
    last one is sent again in the background, until the service answers; no page waits for that,
    and a stream without new pages notices too that the service is back.

    Args:
        http: The process's HTTP client.
        stalls: Where waiting is reported.
        metrics: Where notifications are counted.
        url: RAG_REFRESH_URL.
        token: RAG_AUTH_TOKEN, or None.
        timeout_s: Seconds for one request.
        concurrency: Requests in flight, at most.
        clock: Seconds, for tests.
    """

    rows_per_request = 1

    def __init__(
        self,
        http: HttpClient,
        stalls: Stalls,
        metrics: Metrics,
        url: str,
        token: str | None = None,
        timeout_s: float = 5.0,
        concurrency: int = 32,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.concurrency = concurrency
        self._http = http
        self._stalls = stalls
        self._url = url
        self._place = address_of(url)
        self._timeout_s = timeout_s
        self._clock = clock
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._observe = metrics.stage.labels("rag").observe
        self._delivered, self._refused, self._unreachable = (
            metrics.notifications.labels(outcome)
            for outcome in ("delivered", "refused", "unreachable")
        )
        self._circuit = CircuitBreaker(clock=clock)
        self._given_up: Rejection | None = None  # what is said while the circuit is open
        self._latest = b""
        self._latest_page = ""
        self._probe_in_flight = asyncio.Lock()
        self._probing: asyncio.Task[None] | None = None

    async def write(self, rows: Sequence[PageVector]) -> dict[int, Rejection]:
        """Notify of rows; returns when each has received or, by its index, is given up."""
        refused = {}
        for index, row in enumerate(rows):
            if row.vector is not None and (refusal := await self._notify(row, row.vector)):
                refused[index] = refusal
        return refused

    async def _notify(self, row: PageVector, vector: bytes) -> Rejection | None:
        try:
            body = b'{"page_id":' + orjson.dumps(row.page_id) + b',"vector":' + vector + b"}"
        except TypeError:
            self._refused.inc()
            return Rejection(REFUSED, "the page_id holds a lone surrogate, which no JSON can say")
        await self._end_probe_of(row.page_id)
        refusal = await self._deliver(body)
        if self._latest is body:
            self._latest_page = row.page_id
        if refusal is None:
            self._delivered.inc()
        elif refusal.reason == REFUSED:
            self._refused.inc()
        else:
            self._unreachable.inc()
        return refusal

    async def _end_probe_of(self, page_id: str) -> None:
        """See to it that no older vector of a page is sent beside or after a newer one."""
        if self._latest and self._latest_page == page_id:
            self._latest = b""
            async with self._probe_in_flight:
                pass

    async def _deliver(self, body: bytes) -> Rejection | None:
        """Try a few times, unless the circuit is open or opens meanwhile."""
        began = self._clock()
        error: RetryableError | None = None
        for number in range(TRIES):
            if error is not None:
                await self._circuit.sleep(self._pause_s(number, error))
            # a second hung try is enough: no third begins after one and a half time limits
            if self._circuit.is_open or self._clock() - began > 1.5 * self._timeout_s:
                break
            try:
                await self._try(body)
            except RejectedError as refused:
                return Rejection(REFUSED, refused.detail)
            except RetryableError as fault:
                error = fault
                if isinstance(fault, ConfigurationError):
                    break
            else:
                return None
        if error is not None and error.status == BUSY:
            self._circuit.failed(began)
        return self._give_up(body, error)

    def _pause_s(self, number: int, error: RetryableError) -> float:
        """Seconds before a try, counted from 0, after an error."""
        asked_s = min(error.retry_after_s or 0.0, self._timeout_s)
        return max(FIRST_PAUSE_S * 3.0 ** (number - 1), asked_s)

    async def _try(self, body: bytes) -> None:
        sent_at = self._clock()
        try:
            await self._send(body)
        except RejectedError:
            self._answered()
            raise
        except RetryableError as error:
            if error.status != BUSY:
                self._circuit.failed(sent_at)
            # a single 404 may speak of a page that the service does not know
            if error.status != 404 or self._circuit.is_open:
                self._stalls.failed(SERVICE, error)
            raise
        self._answered()

    def _answered(self) -> None:
        self._circuit.succeeded()
        self._stalls.cleared(SERVICE)
        self._given_up = None
        self._latest = b""

    async def _send(self, body: bytes) -> None:
        began = time.perf_counter()
        answer = await self._http.exchange(
            "POST", self._url, body=body, headers=self._headers, timeout_s=self._timeout_s
        )
        self._observe(time.perf_counter() - began)
        _check(answer, self._place)

    def _give_up(self, body: bytes, error: RetryableError | None) -> Rejection:
        if error is None:
            refusal = self._given_up or Rejection(
                UNREACHABLE, "the RAG service is given up for now"
            )
        else:
            refusal = _refusal(error)
        if self._circuit.is_open:
            self._given_up = self._given_up or refusal
        elif error is not None and error.status == 404:  # of this page, as far as is known
            return refusal
        self._latest = body
        if self._probing is None or self._probing.done():
            self._probing = asyncio.create_task(self._probe())
        return refusal

    async def _probe(self) -> None:
        """Send the latest refused notification until the service has answered any."""
        pause_s = FIRST_PROBE_S
        while True:
            await asyncio.sleep(pause_s)
            if not self._latest:
                break
            pause_s = min(pause_s * 2, LONGEST_PROBE_S)
            async with self._probe_in_flight:
                try:
                    await self._try(self._latest)
                except RetryableError as fault:
                    self._given_up = _refusal(fault)
                except RejectedError:
                    pass  # it answers, which is all that was asked


def _refusal(error: RetryableError) -> Rejection:
    """What a dead letter says: did it answer (with 401, 404, …), or not even that?"""
    answered = isinstance(error, ConfigurationError) and error.status is not None
    return Rejection(REFUSED if answered else UNREACHABLE, error.detail)


def _check(answer: Response, where: str) -> None:
    """Judge an answer, of which nothing but the status is agreed.

    Raises:
        TransientError: Busy or away: 408, 429, 5xx, or no answer of a service's.
        ConfigurationError: The wrong token or address.
        RejectedError: Any other 4xx.
    """
    if answer.ok:
        _check_body(answer, where)
        return
    said = f"{where} answered {answer.status}: {answer.text(200)}"
    if answer.status in (408, 429) or answer.status >= 500:
        raise TransientError(said, retry_after_s=answer.retry_after_s, status=answer.status)
    if answer.status in (401, 403):
        raise ConfigurationError(said, remedy="correct RAG_AUTH_TOKEN", status=answer.status)
    if answer.status in (404, 405) or answer.status < 400:
        raise ConfigurationError(
            said,
            remedy="set RAG_REFRESH_URL to the address that takes POST {page_id, vector}",
            status=answer.status,
        )
    raise RejectedError(said)


def _check_body(answer: Response, where: str) -> None:
    """Tell a gateway's page, or half an answer, from the service's own.

    Raises:
        TransientError: It is HTML, or it says that it is JSON and is none.
    """
    body = answer.body
    kind = answer.headers.get("Content-Type", "")
    if not body:
        return
    if body[:200].lstrip().startswith(b"<") or "html" in kind:
        raise TransientError(f"{where} answered {answer.status} with a page of HTML")
    if "json" in kind:
        try:
            orjson.loads(body)
        except orjson.JSONDecodeError:
            raise TransientError(
                f"{where} answered {answer.status}, but with broken JSON"
            ) from None
