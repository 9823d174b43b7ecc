"""Rows of a table through Stargate's REST API: a scan of all of them, or one by its id.

Stargate pages by `GET …/rows?page-size=N`: a response that is not the last one contains
`pageState`, and the next request sends it as `page-state`. The rows come in the order of
Cassandra's tokens, on which nothing here depends. A page may be empty and not the last one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar
from urllib.parse import quote

import orjson

from connectors.core.errors import ConfigurationError, TransientError
from connectors.http.address import address_of
from connectors.http.response import Response
from connectors.stores.base import PageStateError, Retry, RowPage, UnaddressableIdError
from connectors.stores.stargate.errors import (
    check_available,
    is_busy,
    is_missing_rest_api,
    missing_rest_api,
)
from connectors.stores.stargate.schema import column_types, read_schema
from connectors.stores.stargate.session import StargateSession
from connectors.stores.stargate.table import StargateTable

T = TypeVar("T")
A = TypeVar("A")
Columns = Mapping[str, object]

ResponseCheck = Callable[[Response], Exception | None]
"""Returns the exception for an error response that is not about the setup; None: it is."""


class StargateReader(Generic[T]):
    """The rows of one table.

    Args:
        session: Sends requests.
        table: The table.
        setting: The setting that names the table, for remedies.
        columns: The columns to read.
        parse: Makes a row of its columns; may raise `ConfigurationError`.
        retry: Repeats requests while Stargate is unavailable.
    """

    def __init__(
        self,
        session: StargateSession,
        table: StargateTable,
        setting: str,
        columns: Sequence[str],
        parse: Callable[[Columns], T],
        retry: Retry,
    ) -> None:
        self.name = table.name
        self.setting = setting
        self._session = session
        self._table = table
        self._columns = columns
        self._fields = "fields=" + quote(",".join(columns), safe=",")
        self._parse = parse
        self._retry = retry

    async def check_columns(self) -> None:
        """Make sure that the table has the columns to read, as far as Stargate describes it.

        Stargate answers a read of an unknown column only with 500 "Server error: null".

        Raises:
            ServiceError: A column is missing, or Stargate is unavailable.
        """
        await self._repeat(self._check_columns)

    async def _check_columns(self) -> None:
        try:
            types = column_types(await read_schema(self._session, self._table))
        except ConfigurationError:
            return  # a role may read rows and no schema: the first read shows what is wrong
        for column in self._columns if types else ():
            if column not in types:
                raise ConfigurationError(
                    f"the table {self.name} has no column {column}", remedy=self._remedy(column)
                )

    def _remedy(self, column: str) -> str:
        if column != self._table.model_column:
            return f"correct {self.setting}"
        cql = self._table.cql_of_column(column)
        return f"correct STARGATE_MODEL_COLUMN, or run in cqlsh: {cql}"

    async def scan(self, page_size: int, position: str | None = None) -> AsyncIterator[RowPage[T]]:
        """Read all rows; `position` is Stargate's `pageState`.

        Raises:
            PageStateError: Stargate does not accept `position`.
            ServiceError: Stargate is unavailable, or there is no such table.
        """
        check: ResponseCheck = _no_check if position is None else _position_error
        while True:
            page = await self._read_page(page_size, position, check)
            yield page
            position, check = page.next_position, _no_check
            if position is None:
                return

    async def get(self, page_id: str) -> T | None:
        """Read the row of a page; None if there is none.

        Raises:
            UnaddressableIdError: Stargate accepts no request for this id.
            ServiceError: As `scan`.
        """
        url = self._table.row_url(page_id)
        if page_id == "rows":  # unquoted, the URL is that of the scan
            url = url.removesuffix("rows") + "%27rows%27"

        async def attempt() -> T | None:
            document = await self._get_json(f"{url}?{self._fields}", _id_error)
            rows = (row for row in _rows_in(document) if row.get("page_id") == page_id)
            return next(map(self._parse, rows), None)

        return await self._repeat(attempt)

    async def delete(self, page_id: str) -> None:
        """Delete the row of a page, if there is one.

        Raises:
            UnaddressableIdError, ServiceError: As `get`.
        """
        url = self._table.row_url(page_id)
        await self._repeat(lambda: self._send("DELETE", url, _id_error))

    async def _read_page(
        self, page_size: int, position: str | None, check: ResponseCheck
    ) -> RowPage[T]:
        url = f"{self._table.rows_url}/rows?page-size={page_size}&{self._fields}"
        if position is not None:
            url += f"&page-state={quote(position, safe='')}"

        async def attempt() -> RowPage[T]:
            document = await self._get_json(url, check)
            page_state = document.get("pageState")
            next_position = page_state if isinstance(page_state, str) and page_state else None
            if next_position is not None and next_position == position:
                raise ConfigurationError(
                    f"Stargate lists the same rows of {self.name} again and again",
                    remedy="restart Stargate, and run the command again",
                )
            return RowPage([self._parse(row) for row in _rows_in(document)], next_position)

        return await self._repeat(attempt)

    async def _repeat(self, attempt: Callable[[], Awaitable[A]]) -> A:
        return await self._retry(attempt, "start Stargate, or correct STARGATE_URL")

    async def _get_json(self, url: str, check: ResponseCheck) -> Columns:
        return _parsed(await self._send("GET", url, check), self._table.url)

    async def _send(self, method: str, url: str, check: ResponseCheck) -> Response:
        """Send one request; returns its response if it is 2xx.

        Raises:
            PageStateError, UnaddressableIdError: As `check` decides.
            TransientError, ConfigurationError: For any other error response.
        """
        response = await self._session.send(method, url)
        if response.ok:
            return response
        if (error := check(response)) is not None:
            raise error
        check_available(response, self._table.url, "STARGATE_URL")
        raise self._configuration_error(response)

    def _configuration_error(self, response: Response) -> ConfigurationError:
        if is_missing_rest_api(response):
            return missing_rest_api(self._table.url, response)
        message = response.text(200)
        if response.status == 404:
            return ConfigurationError(
                f"Stargate has no table {self.name} ({message})",
                remedy=f"correct {self.setting} or STARGATE_KEYSPACE",
            )
        return ConfigurationError(
            f"Stargate answered {response.status} to a read of {self.name}: {message}",
            remedy=f"run `gibsey-embedder doctor`, and check {self.setting}",
        )


def _no_check(_: Response) -> None:
    """Every error response is about the setup."""


def _position_error(response: Response) -> Exception | None:
    is_server_error = response.status == 500 and not is_busy(response.text(2000))
    if response.status == 400 or is_server_error:
        return PageStateError(response.text(200))
    return None


def _id_error(response: Response) -> Exception | None:
    if response.status in (400, 414):  # the table and its columns have been checked by then
        return UnaddressableIdError(f"Stargate takes no such id ({response.status})")
    return None


def _parsed(response: Response, url: str) -> Columns:
    """Return the JSON object in a response; NaN and Infinity without quotes are allowed."""
    try:
        document = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        try:
            document = json.loads(response.body)
        except ValueError:
            document = None
    if not isinstance(document, dict):
        raise TransientError(
            f"{address_of(url)} answered 200, but with no JSON object: {response.text(100)}"
        )
    return document


def _rows_in(document: Columns) -> list[Columns]:
    data = document.get("data")
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []
