"""A table's rows through Stargate's REST API: all of them in batches, or one by its id.

Paging as Stargate has it: `GET …/rows?page-size=N`, whose answer holds `pageState` unless it is
the last, given back as `page-state`. The order is that of Cassandra's tokens; nothing here
depends on it. A chunk may be empty and not the last one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote

import orjson

from connectors.core.errors import ConfigurationError, TransientError
from connectors.http.address import address_of
from connectors.http.response import Response
from connectors.stores.stargate.errors import StargateTable, check_reached, is_busy
from connectors.stores.stargate.rest import StargateSession
from gibsey_embedder.tables.table_schema import columns_of, describe
from gibsey_embedder.terminal.retry_policy import GaveUpError, RetryPolicy

T = TypeVar("T")
A = TypeVar("A")
Columns = Mapping[str, object]


class PageStateError(Exception):
    """Stargate does not take a `pageState` of an earlier run."""


class UnaddressableIdError(Exception):
    """Stargate takes no request for a row of this id: it holds a NUL, or is too long for a URL."""


ResponseCheck = Callable[[Response], Exception | None]
"""What an answer refuses that is no fault of the set-up; None: nothing."""


@dataclass(frozen=True, slots=True)
class RowBatch(Generic[T]):
    """One answer of a listing.

    Attributes:
        rows: Its rows.
        next_state: What to ask for the next chunk with; None behind the last one.
    """

    rows: Sequence[T]
    next_state: str | None


class Rows(Generic[T]):
    """The rows of one table.

    Args:
        session: Sends requests, with the token.
        table: Where the table is.
        setting: The setting that names the table, for remedies.
        columns: The columns that are asked for.
        read: Makes a row of its columns.
        retry_policy: Tries again what passes.
    """

    def __init__(
        self,
        session: StargateSession,
        table: StargateTable,
        setting: str,
        columns: Sequence[str],
        read: Callable[[Columns], T],
        retry_policy: RetryPolicy,
    ) -> None:
        self._session = session
        self._table = table
        self._setting = setting
        self._columns = columns
        self._fields = "fields=" + quote(",".join(columns), safe=",")
        self._read = read
        self._retry_policy = retry_policy

    async def check_columns(self) -> None:
        """See that the table has the columns that are asked for, as far as Stargate tells.

        Of another column it says only "Server error: null", with 500 (`getRows` of its source).

        Raises:
            GaveUpError: It has not, or Stargate does not answer.
        """
        columns = await self._answered(self._told_columns)
        for column in self._columns if columns else ():
            if column not in columns:
                raise GaveUpError(
                    f"the table {self.name} has no column {column}; {self._remedy(column)}"
                )

    async def _told_columns(self) -> Mapping[str, str]:
        try:
            return columns_of(await describe(self._session, self._table))
        except (
            ConfigurationError
        ):  # the role may read rows and no schema: reading tells what is wrong
            return {}

    def _remedy(self, column: str) -> str:
        if column != self._table.model_column:
            return f"correct {self._setting}"
        cql = self._table.cql_of_column(column)
        return f"correct STARGATE_MODEL_COLUMN, or run in cqlsh: {cql}"

    async def batches(self, size: int, state: str | None = None) -> AsyncIterator[RowBatch[T]]:
        """List all rows.

        Args:
            size: Rows in one answer, at most.
            state: `next_state` of an earlier listing, to go on behind it.

        Raises:
            PageStateError: `state` is not, or no longer, one of Stargate's.
            GaveUpError: Stargate does not answer, or there is no such table.
        """
        refusal: ResponseCheck = _nothing if state is None else _state_refused
        while True:
            chunk = await self._chunk(size, state, refusal)
            if chunk.next_state is not None and chunk.next_state == state:
                raise GaveUpError(f"Stargate lists the same rows of {self.name} again and again")
            yield chunk
            state, refusal = chunk.next_state, _nothing
            if state is None:
                return

    async def get(self, page_id: str) -> T | None:
        """The row of a page, or None.

        Raises:
            UnaddressableIdError: No row of this id can be asked for.
            GaveUpError: As `batches`.
        """
        url = self._table.row_url(page_id)
        if page_id == "rows":  # as it is that is the listing; quotes around an id are taken off
            url = url.removesuffix("rows") + "%27rows%27"
        found = await self._answered(lambda: self._ask(f"{url}?{self._fields}", _id_refused))
        return next((self._read(r) for r in _rows_of(found) if r.get("page_id") == page_id), None)

    async def delete(self, page_id: str) -> None:
        """Remove the row of a page, there or not.

        Raises:
            UnaddressableIdError, GaveUpError: As `get`.
        """
        url = self._table.row_url(page_id)
        await self._answered(lambda: self._send("DELETE", url, _id_refused))

    @property
    def name(self) -> str:
        """Keyspace and table."""
        return f"{self._table.keyspace}.{self._table.table}"

    async def _chunk(self, size: int, state: str | None, refusal: ResponseCheck) -> RowBatch[T]:
        base = f"{self._table.url}/v2/keyspaces/{self._table.keyspace}/{self._table.table}"
        url = f"{base}/rows?page-size={size}&{self._fields}"
        if state is not None:
            url += f"&page-state={quote(state, safe='')}"
        found = await self._answered(lambda: self._ask(url, refusal))
        next_state = found.get("pageState")
        rows = [self._read(row) for row in _rows_of(found)]
        return RowBatch(rows, next_state if isinstance(next_state, str) and next_state else None)

    async def _answered(self, attempt: Callable[[], Awaitable[A]]) -> A:
        return await self._retry_policy.call(attempt, "start Stargate, or correct STARGATE_URL")

    async def _ask(self, url: str, refusal: ResponseCheck) -> Columns:
        return _parsed(await self._send("GET", url, refusal), self._table.url)

    async def _send(self, method: str, url: str, refusal: ResponseCheck) -> Response:
        """One try; returns an answer that is good.

        Raises:
            TransientError, ConfigurationError: Of any other one.
            PageStateError, UnaddressableIdError: As `refusal` says.
        """
        answer = await self._session.send(method, url)
        if answer.ok:
            return answer
        if (refused := refusal(answer)) is not None:
            raise refused
        check_reached(answer, self._table.url, "STARGATE_URL")
        raise self._fault(answer)

    def _fault(self, answer: Response) -> ConfigurationError:
        words = answer.text(200)
        if answer.status == 404 and "HTTP 404" not in words:
            remedy = f"correct {self._setting} or STARGATE_KEYSPACE"
            return ConfigurationError(f"Stargate has no table {self.name} ({words})", remedy=remedy)
        if answer.status == 404:
            remedy = "set STARGATE_URL to where it is: Stargate's own port for it is 8082"
            return ConfigurationError(
                f"{address_of(self._table.url)} has no REST API v2", remedy=remedy
            )
        detail = f"Stargate answered {answer.status} for {self.name}: {words}"
        return ConfigurationError(
            detail, remedy=f"`gibsey-embedder doctor` looks at what {self._setting} names"
        )


def _nothing(_: Response) -> None:
    """Every answer that is not good is a fault."""


def _state_refused(answer: Response) -> Exception | None:
    if answer.status == 400 or (answer.status == 500 and not is_busy(answer.text(2000))):
        return PageStateError(answer.text(200))
    return None


def _id_refused(answer: Response) -> Exception | None:
    if answer.status in (400, 414):  # the table and its columns are known to be right by then
        return UnaddressableIdError(f"Stargate takes no such id ({answer.status})")
    return None


def _parsed(answer: Response, url: str) -> Columns:
    """The answer's object; also where numbers are NaN or Infinity without quotes."""
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        try:
            found = json.loads(answer.body)
        except ValueError:
            found = None
    if not isinstance(found, dict):
        raise TransientError(
            f"{address_of(url)} answered 200, but with no JSON object: {answer.text(100)}"
        )
    return found


def _rows_of(found: Columns) -> list[Columns]:
    data = found.get("data")
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
