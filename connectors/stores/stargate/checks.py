"""The doctor's checks of Stargate: REST port, token, schema, GraphQL and, on request, a write."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import orjson
from yarl import URL

from connectors.core.errors import ServiceError
from connectors.core.findings import Finding, bad, from_error, good, warning
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.http.response import Response
from connectors.stores.stargate.auth import TokenSource
from connectors.stores.stargate.config import StargateConfig
from connectors.stores.stargate.errors import check_stored
from connectors.stores.stargate.schema import check_schema, column_types, read_schema
from connectors.stores.stargate.session import StargateSession

TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 2.0
REST_PORTS = (8082, 8080, 8180)
"""The usual ports of the REST API: Stargate's own, a gateway's, and the separate service's."""


class StargateChecks:
    """Checks what the stream needs of Stargate.

    Args:
        config: Where Stargate is, and which tables it has.
        http: The HTTP client.
        tokens: Where tokens come from.
        rest_ports: The ports on which the REST API is looked for.
    """

    def __init__(
        self,
        config: StargateConfig,
        http: HttpClient,
        tokens: TokenSource,
        rest_ports: Sequence[int] = REST_PORTS,
    ) -> None:
        self._config = config
        self._http = http
        self._tokens = tokens
        self._rest_ports = rest_ports
        self._session = StargateSession(http, tokens, TIMEOUT_S)
        self._table = config.vectors_table

    async def run(self, *, dimensions: int, write: bool) -> list[Finding]:
        """Run all checks.

        Args:
            dimensions: The size of a vector.
            write: Whether to write and delete a row of the doctor's own.
        """
        if (missing := await self._missing_rest()) is not None:
            return [missing]
        try:
            await self._tokens.current()
            schema = await self.describe()
        except ServiceError as error:
            return [from_error("stargate", error, "start Stargate, or correct STARGATE_URL")]
        findings = [
            good("stargate", f"{address_of(self._table.url)} answers and takes the token"),
            *schema,
            *await self._check_pages_table(),
            *await self._check_graphql(),
        ]
        return [*findings, *await self._check_write(dimensions)] if write else findings

    async def describe(self) -> list[Finding]:
        """Check the columns and the key of the table of vectors.

        Raises:
            ServiceError: Stargate is unavailable, or there is no such table.
        """
        return check_schema(self._table, await read_schema(self._session, self._table))

    async def _missing_rest(self) -> Finding | None:
        """Return the finding for a STARGATE_URL without REST API v2; also tries other ports."""
        url = self._config.url
        problem = await self._rest_problem(url)
        if problem is None:
            return None
        parsed = URL(url)
        ports = [port for port in self._rest_ports if port != parsed.port]
        others = [str(parsed.with_port(port)).rstrip("/") for port in ports]
        problems = await asyncio.gather(*map(self._rest_problem, others))
        for other, other_problem in zip(others, problems, strict=True):
            if other_problem is None:
                remedy = f"set STARGATE_URL={address_of(other)}: the REST API v2 is there"
                return bad("stargate", problem, remedy)
        tried = ", ".join(map(str, ports))
        remedy = f"start Stargate, or correct STARGATE_URL (ports {tried} have no REST API either)"
        return bad("stargate", problem, remedy)

    async def _rest_problem(self, url: str) -> str | None:
        """Return why a URL has no REST API v2; None if it has one. Sends no token."""
        probe = f"{url}/v2/schemas/keyspaces/{self._config.keyspace}"
        try:
            response = await self._http.exchange("GET", probe, timeout_s=PROBE_TIMEOUT_S)
        except ServiceError as error:
            return error.detail
        if _is_rest(response):
            return None
        status, text = response.status, response.text(100)
        return f"{address_of(url)} has no REST API v2 ({status}: {text})"

    async def _check_pages_table(self) -> list[Finding]:
        """Check whether audit and backfill can read the pages."""
        table = self._config.pages_table
        try:
            types = column_types(await read_schema(self._session, table))
        except ServiceError as error:
            remedy = "correct STARGATE_PAGES_TABLE, if you want to run audit or backfill"
            return [warning("stargate pages", error.detail, remedy)]
        missing = [column for column in ("page_id", "body") if column not in types]
        if missing:
            found = f"the table {table.name} has no column {' and '.join(missing)}"
            remedy = "correct STARGATE_PAGES_TABLE; audit and backfill read page_id and body"
            return [warning("stargate pages", found, remedy)]
        return [good("stargate pages", f"{table.name} has page_id and body")]

    async def _check_graphql(self) -> list[Finding]:
        """Check whether STARGATE_GRAPHQL_URL is a GraphQL API, if the stream uses it."""
        if self._config.bulk != "graphql":
            return []
        url = f"{self._config.graphql_url}/{self._table.keyspace}"
        remedy = "set STARGATE_GRAPHQL_URL: in Stargate's own images it is port 8080, path /graphql"
        try:
            response = await self._session.send("POST", url, b'{"query":"{__typename}"}')
        except ServiceError as error:
            return [from_error("stargate graphql", error, remedy)]
        if response.ok:
            return [good("stargate graphql", f"{address_of(url)} answers")]
        found = f"{address_of(url)} answered {response.status}: {response.text(100)}"
        return [bad("stargate graphql", found, remedy)]

    async def _check_write(self, dimensions: int) -> list[Finding]:
        """Write and delete a row that no page has."""
        page_id = f"gibsey-embedder-doctor-{secrets.token_hex(8)}"
        url = self._table.row_url(page_id)
        vector = [1.0] + [0.0] * (dimensions - 1)
        for method, body in (("PUT", orjson.dumps({"vector": vector})), ("DELETE", None)):
            try:
                check_stored(await self._session.send(method, url, body), self._table, page_id)
            except ServiceError as error:
                remedy = f"make sure that the table matches: {self._table.cql}"
                remains = f" (the row {page_id} remains)" if method == "DELETE" else ""
                finding = from_error("stargate write", error, remedy)
                return [bad("stargate write", finding.found + remains, finding.remedy)]
        return [good("stargate write", "the doctor wrote and deleted a row of its own")]


def _is_rest(response: Response) -> bool:
    """Return whether a response to a request for a keyspace without a token is REST v2's."""
    text = response.text(2000).lower()
    if response.status == 401:
        return "unauthorized" in text or "token" in text
    if response.status >= 500 or response.status == 429:
        return True  # a server is there, with an error: the next request shows more
    if response.ok:
        return response.body.lstrip().startswith(b"{")
    return "http 404" not in text and "keyspace" in text
