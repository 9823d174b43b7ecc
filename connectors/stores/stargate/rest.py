"""Rows through Stargate's REST API v2: one request per row, many in flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import orjson

from connectors.core.errors import RejectedError, Rejection, RetryableError, ServiceError
from connectors.core.records import PageVector
from connectors.http.retry import retry_until_answered
from connectors.observability import logs
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.stores.error_attribution import ErrorAttribution, RowCase
from connectors.stores.stargate.errors import InvalidRowKeyError, check_stored
from connectors.stores.stargate.service import REJECTED, SERVICE
from connectors.stores.stargate.session import StargateSession
from connectors.stores.stargate.table import StargateTable
from connectors.stores.upsert_log import UpsertLog


class StargateRest:
    """Writes rows by `PUT …/{page_id}` and deletes them by `DELETE`.

    Delivery: at least once. A PUT is a CQL UPDATE, so repeating it is harmless.

    Args:
        session: Sends requests.
        stalls: Where the writer reports that it waits.
        metrics: Where acknowledged vectors are counted.
        table: The table of vectors.
        concurrency: The most requests in flight.
        attribution: Decides whether a row or the service caused an error.
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
        self._log = UpsertLog(logs.get(SERVICE.name))
        self._slots = asyncio.Semaphore(concurrency)

    async def write(self, rows: Sequence[PageVector]) -> dict[int, Rejection]:
        """Write rows; returns the rejected ones by index once every row is settled."""
        if len(rows) == 1:
            rejection = await self._write_row(rows[0])
            return {} if rejection is None else {0: rejection}
        results = await asyncio.gather(*(self._write_in_slot(row) for row in rows))
        return {index: rejection for index, rejection in enumerate(results) if rejection}

    def acknowledged(self, page_ids: Sequence[str]) -> None:
        """Count and log vectors that Stargate has stored."""
        self.attribution.accepted(len(page_ids))
        self._upserts(len(page_ids))
        self._log.add(page_ids)

    def flush(self) -> None:
        """Log what is not logged yet; called at the end of the process."""
        self._log.flush()

    async def _write_in_slot(self, row: PageVector) -> Rejection | None:
        async with self._slots:
            return await self._write_row(row)

    async def _write_row(self, row: PageVector) -> Rejection | None:
        try:
            url = self.table.row_url(row.page_id)
        except UnicodeEncodeError:
            return Rejection(
                REJECTED, "the page_id contains a lone surrogate, which no URL can represent"
            )
        return await self.write_until_settled(
            row.page_id, lambda: self._send_row(row, url), lambda _: self._can_read(url)
        )

    async def write_until_settled(
        self,
        page_id: str,
        send: Callable[[], Awaitable[None]],
        is_healthy: Callable[[RowCase], Awaitable[bool]],
    ) -> Rejection | None:
        """Send one row until it is stored, or until it is clear that it never will be.

        Args:
            page_id: The row's page.
            send: One try; raises what the response means.
            is_healthy: Whether the service responds normally to a request without the vector.
        """
        case = self.attribution.begin(page_id)
        try:
            await retry_until_answered(
                lambda: self._try(case, send, is_healthy),
                service=SERVICE.name,
                stalls=self.stalls,
            )
        except RejectedError as error:
            self.stalls.cleared(SERVICE.name)
            return Rejection(REJECTED, error.detail)
        finally:
            self.attribution.end(case)
        return None

    async def _try(
        self,
        case: RowCase,
        send: Callable[[], Awaitable[None]],
        is_healthy: Callable[[RowCase], Awaitable[bool]],
    ) -> None:
        try:
            await send()
        except RejectedError as error:
            if isinstance(error, InvalidRowKeyError):
                raise
            remedy = f"make sure that the table matches: {self.table.cql}"
            raise self.attribution.attribute_rejection(case, error, remedy) from error
        except RetryableError as error:
            if error.status != 500:
                raise
            raise await self.attribution.attribute_failure(
                case, error, lambda: is_healthy(case)
            ) from error

    async def _send_row(self, row: PageVector, url: str) -> None:
        """Build a row's request, send it and check the response."""
        if row.vector is None:
            check_stored(await self.session.send("DELETE", url), self.table, row.page_id)
            self.attribution.accepted()
            return
        body = b"{" + columns(row, row.vector, self.table.model_column) + b"}"
        check_stored(await self.session.send("PUT", url, body), self.table, row.page_id)
        self.acknowledged((row.page_id,))

    async def _can_read(self, url: str) -> bool:
        """Return whether Stargate responds normally to a read of the row."""
        try:
            return (await self.session.send("GET", url)).status == 200
        except ServiceError:
            return False


def columns(row: PageVector, vector: bytes, model_column: str | None) -> bytes:
    """Return the columns beside `page_id` as JSON, without braces.

    Args:
        row: The row.
        vector: Its vector as JSON text, which is copied unchanged.
        model_column: The column for the model; None: not written.
    """
    if model_column is None or not row.model:
        return b'"vector":' + vector
    model = orjson.dumps({model_column: row.model})
    return b'"vector":' + vector + b"," + model[1:-1]
