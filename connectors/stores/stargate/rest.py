"""Vectors into Stargate's REST API v2, one row a request, many in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

import orjson

from connectors.core.errors import (
    RejectedError,
    Rejection,
    RetryableError,
    ServiceError,
)
from connectors.core.records import PageVector
from connectors.http.client import HttpClient
from connectors.http.response import Response
from connectors.http.retry import retry_until_answered
from connectors.observability import logs
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.stores.error_attribution import ErrorAttribution, RowCase
from connectors.stores.stargate.auth import TokenSource
from connectors.stores.stargate.errors import (
    InvalidRowKeyError,
    StargateTable,
    check_stored,
    is_401,
    token_refused,
)
from connectors.stores.upsert_log import UpsertLog

REASON = "refused-by-stargate"
SERVICE = "stargate"

TIMEOUT_S = 30.0
"""A frozen Stargate answered after 15 to 20 s, and had stored what it answered 500 to: to ask
again is safe, and to wait is cheaper."""


class StargateSession:
    """Requests to Stargate: token, time limit, measuring; shared by all ways to write.

    Args:
        http: The process's HTTP client.
        tokens: Where tokens come from.
        metrics: Where `gibsey_stage_seconds{stage="stargate"}` is observed.
        timeout_s: Seconds for one request.
    """

    def __init__(
        self, http: HttpClient, tokens: TokenSource, metrics: Metrics, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._observe = metrics.stage.labels("stargate").observe
        self._headers: tuple[str, dict[str, str]] = ("", _headers(""))

    async def send(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        is_refused: Callable[[Response], bool] = is_401,
    ) -> Response:
        """Send one request; if its token is refused, once more with a new one.

        Args:
            method: HTTP method.
            url: Encoded URL.
            body: JSON.
            is_refused: Whether an answer is about the token.

        Raises:
            TransientError: No answer; or the token is refused since its check stalls.
            ConfigurationError: The token is refused, and a new one too.
        """
        token = await self._tokens.current()
        answer = await self._exchange(method, url, body, token)
        if not is_refused(answer):
            return answer
        newer = await self._tokens.renewed(token)
        if newer != token:
            answer = await self._exchange(method, url, body, newer)
            if not is_refused(answer):
                return answer
        raise token_refused(answer, url, self._tokens.remedy)

    async def _exchange(self, method: str, url: str, body: bytes | None, token: str) -> Response:
        if self._headers[0] != token:
            self._headers = (token, _headers(token))
        began = time.perf_counter()
        answer = await self._http.exchange(
            method, url, body=body, headers=self._headers[1], timeout_s=self._timeout_s
        )
        self._observe(time.perf_counter() - began)
        return answer


def _headers(token: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    return {**headers, "X-Cassandra-Token": token} if token else headers


class StargateRest:
    """Writes rows by `PUT …/{page_id}` and removes them by `DELETE`.

    Delivery: at least once; a PUT is a CQL UPDATE, so again is harmless.

    Args:
        session: Sends requests.
        stalls: Where waiting is reported.
        metrics: Where acknowledged vectors are counted.
        table: The table of the vectors.
        concurrency: Requests in flight, at most.
        attribution: Tells bad rows from bad times.
    """

    rows_per_request = 1

    def __init__(
        self,
        session: StargateSession,
        stalls: Stalls,
        metrics: Metrics,
        table: StargateTable,
        concurrency: int = 32,
        attribution: ErrorAttribution | None = None,
    ) -> None:
        self.session = session
        self.stalls = stalls
        self.table = table
        self.concurrency = concurrency
        self.attribution = attribution or ErrorAttribution()
        self._upserts = metrics.upserts.inc
        self._log = UpsertLog(logs.get("stargate"))
        self._slots = asyncio.Semaphore(concurrency)

    async def write(self, rows: Sequence[PageVector]) -> dict[int, Rejection]:
        """Write rows; returns when each is acknowledged or, by its index, given up."""
        if len(rows) == 1:
            refusal = await self._write_row(rows[0])
            return {} if refusal is None else {0: refusal}
        ended = await asyncio.gather(*(self._write_in_turn(row) for row in rows))
        return {index: refusal for index, refusal in enumerate(ended) if refusal is not None}

    def acknowledged(self, page_ids: Sequence[str]) -> None:
        """Count and log vectors that Stargate has stored."""
        self.attribution.accepted(len(page_ids))
        self._upserts(len(page_ids))
        self._log.add(page_ids)

    def flush(self) -> None:
        """Log what is not logged yet; at the end of the process."""
        self._log.flush()

    async def _write_in_turn(self, row: PageVector) -> Rejection | None:
        async with self._slots:
            return await self._write_row(row)

    async def _write_row(self, row: PageVector) -> Rejection | None:
        try:
            url = self.table.row_url(row.page_id)
        except UnicodeEncodeError:
            return Rejection(REASON, "the page_id holds a lone surrogate, which no URL can say")
        return await self.write_until_settled(
            row.page_id, lambda: self._send(row, url), lambda _: self._reads(url)
        )

    async def write_until_settled(
        self,
        page_id: str,
        send: Callable[[], Awaitable[None]],
        answers: Callable[[RowCase], Awaitable[bool]],
    ) -> Rejection | None:
        """Send one row until it is stored, or until it is clear that it never will be.

        Args:
            page_id: Its page.
            send: One try; raises what the answer means.
            answers: Whether the service answers what has nothing to do with the row's value.
        """
        case = self.attribution.begin(page_id)
        try:
            await retry_until_answered(
                lambda: self._try(case, send, answers), service=SERVICE, stalls=self.stalls
            )
        except RejectedError as error:
            self.stalls.cleared(SERVICE)
            return Rejection(REASON, error.detail)
        finally:
            self.attribution.end(case)
        return None

    async def _try(
        self,
        case: RowCase,
        send: Callable[[], Awaitable[None]],
        answers: Callable[[RowCase], Awaitable[bool]],
    ) -> None:
        try:
            await send()
        except RejectedError as error:
            if isinstance(error, InvalidRowKeyError):
                raise
            remedy = f"see that the table is as in: {self.table.cql}"
            raise self.attribution.attribute_rejection(case, error, remedy) from error
        except RetryableError as error:
            if error.status != 500:
                raise
            raise await self.attribution.attribute_failure(
                case, error, lambda: answers(case)
            ) from error

    async def _send(self, row: PageVector, url: str) -> None:
        if row.vector is None:
            check_stored(await self.session.send("DELETE", url), self.table, row.page_id)
            self.attribution.accepted()
            return
        body = b"{" + columns(row, row.vector, self.table.model_column) + b"}"
        check_stored(await self.session.send("PUT", url, body), self.table, row.page_id)
        self.acknowledged((row.page_id,))

    async def _reads(self, url: str) -> bool:
        """Whether Stargate answers when asked for the row, there or not."""
        try:
            return (await self.session.send("GET", url)).status == 200
        except ServiceError:
            return False


def columns(row: PageVector, vector: bytes, model_column: str | None) -> bytes:
    """The columns beside `page_id` as JSON; the vector's text is passed on as it is.

    Args:
        row: The row.
        vector: Its vector as JSON text.
        model_column: Where the model is written, if it is.
    """
    if model_column is None or not row.model:
        return b'"vector":' + vector
    model = orjson.dumps({model_column: row.model})
    return b'"vector":' + vector + b"," + model[1:-1]
