"""Stargate: the REST port, the token, keyspace, table and columns, and on request a write."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import orjson
from yarl import URL

from connectors.core.errors import ConfigurationError, ServiceError
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.http.response import Response
from connectors.observability.metrics import Metrics
from connectors.stores.stargate.auth import TokenSource
from connectors.stores.stargate.errors import StargateTable, check_stored
from connectors.stores.stargate.rest import StargateSession
from dataflow.config.settings import Settings
from gibsey_embedder.doctor.findings import Finding, bad, from_error, good, warning
from gibsey_embedder.tables.table_schema import Schema, columns_of, describe

ASK_S = 5.0
PROBE_S = 2.0
REST_PORTS = (8082, 8080, 8180)
"""Where Stargate's REST API is: its own port, a gateway's, and the separate service's."""
VECTOR_TYPES = ("frozen<list<float>>", "list<float>")
TEXT_TYPES = ("text", "varchar")


class StargateCheck:
    """Asks Stargate for what the stream will want.

    Args:
        settings: The settings in force.
        http: The HTTP client.
        tokens: Where tokens come from.
    """

    def __init__(self, settings: Settings, http: HttpClient, tokens: TokenSource) -> None:
        self._settings = settings
        self._http = http
        self._tokens = tokens
        self._session = StargateSession(http, tokens, Metrics(), ASK_S)
        self._table = StargateTable(
            settings.stargate_url,
            settings.stargate_keyspace,
            settings.stargate_table,
            settings.stargate_model_column,
        )

    async def run(self, *, write: bool) -> list[Finding]:
        """All checks.

        Args:
            write: Whether a row of the doctor's own may be written and deleted.
        """
        if (missing := await self._missing_rest()) is not None:
            return [missing]
        try:
            await self._tokens.current()
            described = await describe(self._session, self._table)
        except ServiceError as error:
            return [from_error("stargate", error, "start Stargate, or correct STARGATE_URL")]
        findings = [
            good("stargate", f"{address_of(self._table.url)} answers and takes the token"),
            *judge_table(self._table, described),
            *await self._pages_table(),
            *await self._bulk(),
        ]
        return [*findings, *await self._write()] if write else findings

    async def _missing_rest(self) -> Finding | None:
        """The finding where there is no REST API v2 at the address given."""
        url = self._settings.stargate_url
        if await self._has_rest(url):
            return None
        here = URL(url)
        ports = [port for port in REST_PORTS if port != here.port]
        others = [str(here.with_port(port)).rstrip("/") for port in ports]
        answers = await asyncio.gather(*(self._has_rest(other) for other in others))
        found = await self._said(url)
        for other, has in zip(others, answers, strict=True):
            if has:
                remedy = f"set STARGATE_URL={address_of(other)}: the REST API v2 is there"
                return bad("stargate", found, remedy)
        tried = ", ".join(str(port) for port in ports)
        remedy = f"start Stargate, or correct STARGATE_URL (no REST API at ports {tried} either)"
        return bad("stargate", found, remedy)

    async def _has_rest(self, url: str) -> bool:
        """Whether Stargate's REST API v2 is at an address; asked without a token."""
        try:
            answer = await self._http.exchange("GET", self._probe(url), timeout_s=PROBE_S)
        except ConfigurationError:
            return False
        except ServiceError:
            return False
        return _is_rest(answer)

    async def _said(self, url: str) -> str:
        try:
            answer = await self._http.exchange("GET", self._probe(url), timeout_s=PROBE_S)
        except ServiceError as error:
            return error.detail
        return f"{address_of(url)} has no REST API v2 ({answer.status}: {answer.text(100)})"

    def _probe(self, url: str) -> str:
        return f"{url}/v2/schemas/keyspaces/{self._settings.stargate_keyspace}"

    async def _pages_table(self) -> list[Finding]:
        """Whether the pages themselves can be read, as audit and backfill do."""
        name = self._settings.stargate_pages_table
        table = StargateTable(self._table.url, self._table.keyspace, name)
        try:
            columns = columns_of(await describe(self._session, table))
        except ServiceError as error:
            remedy = "correct STARGATE_PAGES_TABLE, if you mean to run audit or backfill"
            return [warning("stargate pages", error.detail, remedy)]
        missing = [column for column in ("page_id", "body") if column not in columns]
        if missing:
            found = f"the table {name} has no column {' and '.join(missing)}"
            remedy = "correct STARGATE_PAGES_TABLE; audit and backfill read page_id and body"
            return [warning("stargate pages", found, remedy)]
        return [good("stargate pages", f"{table.keyspace}.{name} has page_id and body")]

    async def _bulk(self) -> list[Finding]:
        """Whether GraphQL is where the settings say; the custom writer takes no question."""
        if self._settings.stargate_bulk != "graphql":
            return []
        url = f"{self._settings.stargate_graphql_url}/{self._table.keyspace}"
        remedy = "set STARGATE_GRAPHQL_URL: Stargate's own port for it is 8080, path /graphql"
        try:
            answer = await self._session.send("POST", url, b'{"query":"{__typename}"}')
        except ServiceError as error:
            return [from_error("stargate graphql", error, remedy)]
        if answer.ok:
            return [good("stargate graphql", f"{address_of(url)} answers")]
        found = f"{address_of(url)} answered {answer.status}: {answer.text(100)}"
        return [bad("stargate graphql", found, remedy)]

    async def _write(self) -> list[Finding]:
        """Write and delete a row that no page has."""
        page_id = f"gibsey-embedder-doctor-{secrets.token_hex(8)}"
        url = self._table.row_url(page_id)
        vector = [1.0] + [0.0] * (self._settings.embed_dimensions - 1)
        steps = (("PUT", orjson.dumps({"vector": vector})), ("DELETE", None))
        for method, body in steps:
            try:
                check_stored(await self._session.send(method, url, body), self._table, page_id)
            except ServiceError as error:
                remedy = f"see that the table is as in: {self._table.cql}"
                left = f" (the row {page_id} is left)" if method == "DELETE" else ""
                finding = from_error("stargate write", error, remedy)
                return [bad("stargate write", finding.found + left, finding.remedy)]
        return [good("stargate write", "a row of its own was written and deleted")]


def _is_rest(answer: Response) -> bool:
    """Whether an answer to the question for a keyspace, without a token, is REST v2's."""
    words = answer.text(2000).lower()
    if answer.status == 401:
        return "unauthorized" in words or "token" in words
    if answer.status >= 500 or answer.status == 429:
        return True  # somebody is there, and ill: the next question tells more
    if answer.ok:
        return answer.body.lstrip().startswith(b"{")
    return "http 404" not in words and "keyspace" in words


def judge_table(table: StargateTable, described: Schema) -> list[Finding]:
    """Whether the table of the vectors can hold them."""
    columns = columns_of(described)
    name = f"{table.keyspace}.{table.table}"
    if not columns:
        remedy = f"see that the table is as in: {table.cql}"
        return [warning("stargate table", f"Stargate tells no columns of {name}", remedy)]
    wanted: dict[str, Sequence[str]] = {"page_id": TEXT_TYPES, "vector": VECTOR_TYPES}
    if table.model_column:
        wanted[table.model_column] = TEXT_TYPES
    faults = [
        _column(table, column, columns.get(column), types) for column, types in wanted.items()
    ]
    found = [fault for fault in [*faults, _key(table, described)] if fault is not None]
    types = f"page_id {columns.get('page_id')}, vector {columns.get('vector')}"
    return found or [good("stargate table", f"{name} has {types}")]


def _column(
    table: StargateTable, column: str, cql: str | None, types: Sequence[str]
) -> Finding | None:
    name = f"{table.keyspace}.{table.table}"
    if cql is None:
        remedy = f"run in cqlsh: {table.cql_of_column(column)}"
        if column == "page_id":
            remedy = f"make the table anew: {table.cql}"
        return bad("stargate table", f"the table {name} has no column {column}", remedy)
    if cql in types:
        return None
    found = f"the column {column} of {name} is {cql}, wanted is {types[0]}"
    return bad("stargate table", found, f"make the table anew: {table.cql}")


def _key(table: StargateTable, described: Schema) -> Finding | None:
    key = described.get("primaryKey")
    if not isinstance(key, dict):
        return None
    parts = [*(key.get("partitionKey") or []), *(key.get("clusteringKey") or [])]
    if parts == ["page_id"]:
        return None
    found = (
        f"the key of {table.keyspace}.{table.table} is {', '.join(map(str, parts))}, not page_id"
    )
    return bad("stargate table", found, f"make the table anew: {table.cql}")
