"""Rows through Stargate's GraphQL API, many per request."""

from __future__ import annotations

import re

import orjson

from connectors.core.errors import Rejection
from connectors.stores.stargate.bulk import FAILING_S, BulkWriter, IndexedRow
from connectors.stores.stargate.bulk_errors import check_graphql, is_graphql_unauthorized
from connectors.stores.stargate.rest import StargateRest


class StargateGraphql(BulkWriter):
    """Writes rows by the GraphQL mutation `bulkInsert…`, in which ids need no quoting.

    A row that GraphQL rejects alone is written through `rest`, which decides.

    Args:
        rest: Writes single rows.
        url: GraphQL's URL without the keyspace, e.g. `http://stargate:8080/graphql`.
        rows: The most rows in one request.
        failing_s: Seconds of failures after which a bulk is sent row by row.
    """

    def __init__(
        self, rest: StargateRest, url: str, rows: int = 100, failing_s: float = FAILING_S
    ) -> None:
        table = rest.table
        super().__init__(rest, f"{url.rstrip('/')}/{table.keyspace}", rows, failing_s)
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

    async def _send_json(self, rows: bytes) -> None:
        response = await self._rest.session.send(
            "POST", self._url, self._head + rows + b"]}}", is_graphql_unauthorized
        )
        check_graphql(response, self._rest.table, self._url, self._mutation)

    async def _store_alone(self, entry: IndexedRow) -> dict[int, Rejection]:
        return await self._store_by_rest([entry])


def graphql_name(name: str) -> str:
    """Return the name that Stargate's GraphQL API gives to a table or a column.

    There, `x` followed by hexadecimal digits and `_` begins an escape, so such an `x` is itself
    escaped: the table `mixed_pages` is `mix78_ed_pages` (Stargate's NameConversions).
    """
    return re.sub(r"x(?=[0-9a-f]+_)", "x78_", name)
