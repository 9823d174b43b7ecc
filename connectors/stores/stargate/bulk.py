"""What both bulk writers share: many rows per request, and how a failed bulk is split."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import orjson

from connectors.core.errors import RejectedError, Rejection, RetryableError
from connectors.core.records import PageVector
from connectors.http.retry import retry_until_answered
from connectors.stores.stargate.rest import StargateRest, columns
from connectors.stores.stargate.service import SERVICE

IndexedRow = tuple[int, PageVector]
"""A row and its index in the call."""

MAX_IN_FLIGHT = 6
"""Bulks in flight: a service with four workers was 99.8 % busy with six bulks, 96 % with four."""

FAILURES = 5
FAILING_S = 10.0
"""After this many failures and this much time, a bulk is sent row by row."""


class _RepeatedFailureError(RejectedError):
    """A bulk keeps failing, so each of its rows is sent alone."""


class BulkWriter(ABC):
    """Writes many rows per request, and the rest of them through `rest`.

    A service rejects a bulk as a whole, so a rejected bulk is halved until the bad row is alone.
    Some halves contain rows that are stored already; they are upserts, so repeating them is
    harmless. Deletes go through `rest`, so STARGATE_URL must be right here too.

    Args:
        rest: Writes single rows; counts, logs and attributes errors for both.
        url: The URL that bulks are sent to.
        rows: The most rows in one request.
        failing_s: Seconds of failures after which a bulk is sent row by row.
    """

    def __init__(
        self, rest: StargateRest, url: str, rows: int = 100, failing_s: float = FAILING_S
    ) -> None:
        self._rest = rest
        self._url = url
        self._failing_s = failing_s
        self.rows_per_request = rows
        self.concurrency = min(MAX_IN_FLIGHT, rest.concurrency)
        self._slots = asyncio.Semaphore(rest.concurrency)

    def flush(self) -> None:
        """Log what is not logged yet; called at the end of the process."""
        self._rest.flush()

    async def write(self, rows: Sequence[PageVector]) -> dict[int, Rejection]:
        """Write rows; returns the rejected ones by index once every row is settled."""
        entries = list(enumerate(rows))
        bulk = [entry for entry in entries if _fits_in_json(entry[1])]
        rest = [entry for entry in entries if not _fits_in_json(entry[1])]
        if not rest:
            return await self._store(bulk)
        return _merged(await asyncio.gather(self._store(bulk), self._store_by_rest(rest)))

    async def _store_by_rest(self, entries: Sequence[IndexedRow]) -> dict[int, Rejection]:
        rejected = await self._rest.write([row for _, row in entries])
        return {entries[index][0]: rejection for index, rejection in rejected.items()}

    async def _store(self, entries: Sequence[IndexedRow]) -> dict[int, Rejection]:
        if not entries:
            return {}
        if len(entries) == 1:
            return await self._store_alone(entries[0])
        failures = _Failures(self._failing_s)
        try:
            await retry_until_answered(
                lambda: self._try(entries, failures),
                service=SERVICE.name,
                stalls=self._rest.stalls,
            )
        except _RepeatedFailureError:
            return _merged(await asyncio.gather(*map(self._store_in_slot, entries)))
        except RejectedError:
            half = len(entries) // 2
            halves = (entries[:half], entries[half:])
            return _merged(await asyncio.gather(*map(self._store, halves)))
        return {}

    async def _store_in_slot(self, entry: IndexedRow) -> dict[int, Rejection]:
        async with self._slots:
            return await self._store_alone(entry)

    async def _try(self, entries: Sequence[IndexedRow], failures: _Failures) -> None:
        try:
            await self._send([row for _, row in entries])
        except RetryableError as error:
            if error.status == 500 and failures.add():
                raise _RepeatedFailureError(error.detail) from error
            raise

    async def _send(self, rows: Sequence[PageVector]) -> None:
        await self._send_json(b",".join(_row(row, self._model_column()) for row in rows))
        self._rest.acknowledged([row.page_id for row in rows])

    def _model_column(self) -> str | None:
        return self._rest.table.model_column

    @abstractmethod
    async def _send_json(self, rows: bytes) -> None:
        """Send rows, joined by commas; raises what the response means."""

    @abstractmethod
    async def _store_alone(self, entry: IndexedRow) -> dict[int, Rejection]:
        """Store one row without any others in its request."""


class _Failures:
    """How often and for how long a bulk has failed."""

    def __init__(self, failing_s: float) -> None:
        self._failing_s = failing_s
        self._count = 0
        self._since = time.monotonic()

    def add(self) -> bool:
        """Count one more failure; returns whether the bulk is to be sent row by row."""
        self._count += 1
        return self._count >= FAILURES and time.monotonic() - self._since >= self._failing_s


def _fits_in_json(row: PageVector) -> bool:
    """Return whether a row can be in a bulk: it is not a delete, and UTF-8 can represent its id."""
    if row.vector is None:
        return False
    try:
        row.page_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _row(row: PageVector, model_column: str | None) -> bytes:
    vector = row.vector or b"null"  # never null: deletes are not in a bulk
    page_id = orjson.dumps(row.page_id)
    return b'{"page_id":' + page_id + b"," + columns(row, vector, model_column) + b"}"


def _merged(results: Sequence[dict[int, Rejection]]) -> dict[int, Rejection]:
    return {index: rejection for result in results for index, rejection in result.items()}
