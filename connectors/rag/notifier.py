"""Notifications of the RAG service, the one output that the stream can abandon.

`RagNotifier._abandon` does so: the notification becomes a dead letter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from connectors.core.errors import ConfigurationError, RejectedError, Rejection, RetryableError
from connectors.core.records import PageVector
from connectors.http.address import address_of
from connectors.http.circuit_breaker import CircuitBreaker
from connectors.http.client import HttpClient
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.rag.errors import (
    NOT_FOUND,
    TOO_MANY_REQUESTS,
    check_response,
    rejection_of,
)
from connectors.rag.probe import FIRST_PAUSE_S as FIRST_PROBE_S
from connectors.rag.probe import Probe
from connectors.rag.request import request_body, request_headers
from connectors.rag.service import REJECTED, SERVICE, UNREACHABLE

ATTEMPTS = 3
FIRST_PAUSE_S = 0.25
"""Pause before the second attempt; the pause before the third is three times as long."""

LONGEST_DELIVERY = 1.5
"""No attempt starts later than this many timeouts after the first: a second timeout is enough."""


class RagNotifier:
    """Notifies the RAG service of new vectors: `POST RAG_REFRESH_URL {"page_id","vector"}`.

    Delivery: at least once, or a rejection, which becomes a dead letter. A service that is down or
    hangs costs the stream one timeout in total, not one for each page: after consecutive failures
    the circuit opens, and notifications are rejected without a request. After each abandoned
    notification, a probe runs until the service responds.

    Args:
        http: The process's HTTP client.
        stalls: Where failures are reported.
        metrics: Where notifications are counted.
        url: RAG_REFRESH_URL.
        token: RAG_AUTH_TOKEN, or None.
        timeout_s: Seconds for one request.
        concurrency: The maximum of requests in flight.
        clock: Monotonic seconds, for tests.
        circuit: The circuit breaker; None: one with the usual limits.
        first_probe_s: Seconds before the first probe.
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
        circuit: CircuitBreaker | None = None,
        first_probe_s: float = FIRST_PROBE_S,
    ) -> None:
        self.concurrency = concurrency
        self._http = http
        self._stalls = stalls
        self._url = url
        self._address = address_of(url)
        self._timeout_s = timeout_s
        self._clock = clock
        self._headers = request_headers(token)
        self._observe_seconds = metrics.stage.labels("rag").observe
        self._delivered, self._refused, self._unreachable = (
            metrics.notifications.labels(outcome)
            for outcome in ("delivered", "refused", "unreachable")
        )
        self._circuit = circuit or CircuitBreaker(clock=clock)
        self._probe = Probe(self._send_probe, first_probe_s)
        self._open_rejection: Rejection | None = None  # of all pages while the circuit is open

    async def write(self, rows: Sequence[PageVector]) -> dict[int, Rejection]:
        """Notify of rows.

        Returns:
            The rejected rows by index. The service has accepted all others.
        """
        rejections = {}
        for index, row in enumerate(rows):
            if row.vector is not None and (rejection := await self._notify(row, row.vector)):
                rejections[index] = rejection
        return rejections

    async def _notify(self, row: PageVector, vector: bytes) -> Rejection | None:
        try:
            body = request_body(row.page_id, vector)
        except TypeError:
            detail = "the page_id contains a lone surrogate, which JSON cannot represent"
            rejection: Rejection | None = Rejection(REJECTED, detail)
        else:
            await self._probe.drop(row.page_id)
            rejection = await self._deliver(row.page_id, body)
        self._count(rejection)
        return rejection

    def _count(self, rejection: Rejection | None) -> None:
        if rejection is None:
            self._delivered.inc()
        elif rejection.reason == REJECTED:
            self._refused.inc()
        else:
            self._unreachable.inc()

    async def _deliver(self, page_id: str, body: bytes) -> Rejection | None:
        """Make a few attempts, unless the circuit is open or opens meanwhile."""
        started = self._clock()
        error: RetryableError | None = None
        for number in range(ATTEMPTS):
            if error is not None:
                await self._circuit.sleep(self._pause_s(number, error))
            too_late = self._clock() - started > LONGEST_DELIVERY * self._timeout_s
            if self._circuit.is_open or too_late:
                break
            try:
                await self._attempt(body)
            except RejectedError as refused:
                return Rejection(REJECTED, refused.detail)
            except RetryableError as failure:
                error = failure
                if isinstance(failure, ConfigurationError):
                    break
            else:
                return None
        if error is not None and error.status == TOO_MANY_REQUESTS:
            self._circuit.failed(started)
        return self._abandon(page_id, body, error)

    def _pause_s(self, number: int, error: RetryableError) -> float:
        """Return the seconds before an attempt, counted from 0, after an error."""
        retry_after_s = min(error.retry_after_s or 0.0, self._timeout_s)
        return max(FIRST_PAUSE_S * 3.0 ** (number - 1), retry_after_s)

    async def _attempt(self, body: bytes) -> None:
        sent_at = self._clock()
        try:
            await self._send(body)
        except RejectedError:
            self._responded()
            raise
        except RetryableError as error:
            # A busy service is not down: the circuit counts it once a delivery, not once a request.
            if error.status != TOO_MANY_REQUESTS:
                self._circuit.failed(sent_at)
            # A single 404 may concern one page that the service does not know.
            if error.status != NOT_FOUND or self._circuit.is_open:
                self._stalls.failed(SERVICE.name, error)
            raise
        self._responded()

    async def _send(self, body: bytes) -> None:
        started = time.perf_counter()
        response = await self._http.exchange(
            "POST", self._url, body=body, headers=self._headers, timeout_s=self._timeout_s
        )
        self._observe_seconds(time.perf_counter() - started)
        check_response(response, self._address)

    def _responded(self) -> None:
        self._circuit.succeeded()
        self._stalls.cleared(SERVICE.name)
        self._open_rejection = None
        self._probe.stop()

    def _abandon(self, page_id: str, body: bytes, error: RetryableError | None) -> Rejection:
        """Give up a notification: after its last attempt, or at once while the circuit is open.

        Args:
            page_id: Its page.
            body: Its request body, which the probe sends again.
            error: The error of its last attempt; None if there was no attempt.
        """
        if error is None:
            rejection = self._open_rejection or Rejection(
                UNREACHABLE, "the RAG service does not respond; this page was not sent"
            )
        else:
            rejection = rejection_of(error)
        if self._circuit.is_open:
            self._open_rejection = self._open_rejection or rejection
        elif error is not None and error.status == NOT_FOUND:  # it concerns this page only
            return rejection
        self._probe.start(page_id, body)
        return rejection

    async def _send_probe(self, body: bytes) -> None:
        try:
            await self._attempt(body)
        except RetryableError as error:
            self._open_rejection = rejection_of(error)
        except RejectedError:
            pass  # the service responds
