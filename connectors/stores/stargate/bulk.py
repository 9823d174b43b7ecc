"""Vectors into Stargate many rows a request: its GraphQL bulk, or a bulk service of the user's."""

from __future__ import annotations

import asyncio
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence

import orjson

from connectors.core.errors import RejectedError, Rejection, RetryableError
from connectors.core.records import PageVector
from connectors.http.retry import retry_until_answered
from connectors.stores.error_attribution import RowCase
from connectors.stores.stargate.bulk_errors import check_custom, check_graphql, is_unauthorised
from connectors.stores.stargate.rest import SERVICE, StargateRest, columns

Entry = tuple[int, PageVector]
"""A row and its index in the call."""

IN_FLIGHT = 6
"""Bulks at once: a service that works on four at once was used to 96 % with four of them, and to
99.8 with six."""

FAILURES = 5
FAILING_S = 10.0
"""A bulk that gets nothing but errors is sent row by row after both."""


class _FallsApart(RejectedError):
    """A bulk that fails and fails: each of its rows is asked for alone."""


class _Bulk(ABC):
    """What both bulk forms share: deletes, halving, and rows alone at the end.

    A bulk is refused as a whole and without saying for which row, so it is halved until the bad
    row is found. Some halves hold rows that were stored already (Stargate stores the others
    of a bulk with an empty or huge id): they are upserts, so again is harmless. Deletes, and rows
    that are left alone in GraphQL, go by `rest`, so STARGATE_URL must be right here too.

    Args:
        rest: The way for single rows; counts, logs and judges for both.
        url: Where bulks go.
        rows: Rows in one, at most.
    """

    def __init__(self, rest: StargateRest, url: str, rows: int = 100) -> None:
        self._rest = rest
        self._url = url
        self.rows_per_request = rows
        self.concurrency = min(IN_FLIGHT, rest.concurrency)
        self._slots = asyncio.Semaphore(rest.concurrency)

    def flush(self) -> None:
        """Log what is not logged yet; at the end of the process."""
        self._rest.flush()

    async def write(self, rows: Sequence[PageVector]) -> dict[int, Rejection]:
        """Write rows; returns when each is acknowledged or, by its index, given up."""
        entries = list(enumerate(rows))
        bulk = [entry for entry in entries if _fits_in_json(entry[1])]
        rest = [entry for entry in entries if not _fits_in_json(entry[1])]
        if not rest:
            return await self._store(bulk)
        return _merged(await asyncio.gather(self._store(bulk), self._by_rest(rest)))

    async def _by_rest(self, entries: Sequence[Entry]) -> dict[int, Rejection]:
        refused = await self._rest.write([row for _, row in entries])
        return {entries[index][0]: refusal for index, refusal in refused.items()}

    async def _store(self, entries: Sequence[Entry]) -> dict[int, Rejection]:
        if not entries:
            return {}
        if len(entries) == 1:
            return await self._store_alone(entries[0])
        failing = _Failing()
        try:
            await retry_until_answered(
                lambda: self._try(entries, failing), service=SERVICE, stalls=self._rest.stalls
            )
        except _FallsApart:
            return _merged(await asyncio.gather(*map(self._in_turn, entries)))
        except RejectedError:
            half = len(entries) // 2
            halves = (entries[:half], entries[half:])
            return _merged(await asyncio.gather(*map(self._store, halves)))
        return {}

    async def _in_turn(self, entry: Entry) -> dict[int, Rejection]:
        async with self._slots:
            return await self._store_alone(entry)

    async def _try(self, entries: Sequence[Entry], failing: _Failing) -> None:
        try:
            await self._send([row for _, row in entries])
        except RetryableError as error:
            if error.status == 500 and failing.again():
                raise _FallsApart(error.detail) from error
            raise

    async def _send(self, rows: Sequence[PageVector]) -> None:
        await self._ask(b",".join(_row(row, self._model_column()) for row in rows))
        self._rest.acknowledged([row.page_id for row in rows])

    def _model_column(self) -> str | None:
        return self._rest.table.model_column

    @abstractmethod
    async def _ask(self, rows: bytes) -> None:
        """Send rows, joined by commas; raises what the answer means."""

    @abstractmethod
    async def _store_alone(self, entry: Entry) -> dict[int, Rejection]:
        """Store a row that no others are to suffer with."""


class StargateGraphql(_Bulk):
    """Writes rows by Stargate's GraphQL mutation `bulkInsert…`; ids need no quoting there.

    A row that it refuses alone is given to `rest`, which has the last word.

    Args:
        rest: The way for single rows.
        url: GraphQL's URL without the keyspace, e.g. `http://stargate:8080/graphql`.
        rows: Rows in one request, at most.
    """

    def __init__(self, rest: StargateRest, url: str, rows: int = 100) -> None:
        table = rest.table
        super().__init__(rest, f"{url.rstrip('/')}/{table.keyspace}", rows)
        name = graphql_name(table.table)
        self._mutation = f"bulkInsert{name}"
        query = (
            f"mutation($v:[{name}Input!])"
            f"{{{self._mutation}(values:$v){{applied value{{page_id}}}}}}"
        )
        self._head = b'{"query":' + orjson.dumps(query) + b',"variables":{"v":['

    def _model_column(self) -> str | None:
        column = super()._model_column()
        return column and graphql_name(column)

    async def _ask(self, rows: bytes) -> None:
        answer = await self._rest.session.send(
            "POST", self._url, self._head + rows + b"]}}", is_unauthorised
        )
        check_graphql(answer, self._rest.table, self._url, self._mutation)

    async def _store_alone(self, entry: Entry) -> dict[int, Rejection]:
        return await self._by_rest([entry])


class StargateCustom(_Bulk):
    """Writes rows by `PUT STARGATE_BULK_URL` with `[{"page_id","vector"}, …]`; 2xx = all stored.

    Args:
        rest: The way for deletes.
        url: STARGATE_BULK_URL.
        rows: Rows in one request, at most.
    """

    async def _ask(self, rows: bytes) -> None:
        answer = await self._rest.session.send("PUT", self._url, b"[" + rows + b"]")
        check_custom(answer, self._url)

    async def _store_alone(self, entry: Entry) -> dict[int, Rejection]:
        index, row = entry
        refusal = await self._rest.write_until_settled(
            row.page_id, lambda: self._send([row]), self._others_are_stored
        )
        return {} if refusal is None else {index: refusal}

    async def _others_are_stored(self, case: RowCase) -> bool:
        """The only sign of life that this service gives: there is nothing to read from it."""
        return self._rest.attribution.accepted_since(case) > 0


class _Failing:
    """How often and how long a bulk has failed."""

    def __init__(self) -> None:
        self._times = 0
        self._since = time.monotonic()

    def again(self) -> bool:
        """Count one more failure; whether it is enough."""
        self._times += 1
        return self._times >= FAILURES and time.monotonic() - self._since >= FAILING_S


def graphql_name(name: str) -> str:
    """The name that Stargate's GraphQL gives to a table or a column.

    An `x` that is followed by hexadecimal digits and `_` begins an escape there, so such an `x`
    is escaped itself: the table `mixed_pages` is `mix78_ed_pages` (Stargate's NameConversions).
    """
    return re.sub(r"x(?=[0-9a-f]+_)", "x78_", name)


def _fits_in_json(row: PageVector) -> bool:
    """Whether a row can be in a bulk: it is no delete, and UTF-8 can say its id."""
    if row.vector is None:
        return False
    try:
        row.page_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _row(row: PageVector, model_column: str | None) -> bytes:
    vector = row.vector or b"null"  # never null: deletes do not come here
    page_id = orjson.dumps(row.page_id)
    return b'{"page_id":' + page_id + b"," + columns(row, vector, model_column) + b"}"


def _merged(parts: Sequence[dict[int, Rejection]]) -> dict[int, Rejection]:
    return {index: refusal for part in parts for index, refusal in part.items()}
