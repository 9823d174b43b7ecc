"""Stargate as a vector store: what the stream and the commands open."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from connectors.core.errors import ConfigurationError
from connectors.core.findings import Finding, warning
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls
from connectors.stores.base import (
    NearestRows,
    Page,
    Retry,
    StoredVector,
    VectorStore,
    VectorWriter,
    once,
)
from connectors.stores.nearest import Nearest
from connectors.stores.stargate.auth import FetchedToken, FixedToken, TokenSource
from connectors.stores.stargate.checks import StargateChecks
from connectors.stores.stargate.config import StargateConfig
from connectors.stores.stargate.custom import StargateCustom
from connectors.stores.stargate.graphql import StargateGraphql
from connectors.stores.stargate.reader import Columns, StargateReader
from connectors.stores.stargate.rest import StargateRest
from connectors.stores.stargate.service import SERVICE
from connectors.stores.stargate.session import StargateSession


class StargateStore(VectorStore):
    """Stargate's REST API v2, with its GraphQL API or a custom service for bulk writes.

    Args:
        config: Where Stargate is, and which tables it has.
        http: The HTTP client; the caller closes it.
        retry: Repeats reads while Stargate is unavailable.
    """

    service = SERVICE

    def __init__(self, config: StargateConfig, http: HttpClient, retry: Retry = once) -> None:
        self._config = config
        self._http = http
        self._tokens = token_source(config, http)
        session = StargateSession(http, self._tokens)
        self.address = address_of(config.url)
        self.http_url = config.url
        self.concurrency = config.concurrency
        self.keeps_model = config.model_column is not None
        self.identity = (config.url, config.keyspace, config.pages, config.vectors)
        self.pages = StargateReader(
            session,
            config.pages_table,
            "STARGATE_PAGES_TABLE",
            ["page_id", "body"],
            _parse_page,
            retry,
        )
        self.vectors = _vectors(session, config, retry)

    def open_writer(self, stalls: Stalls, metrics: Metrics) -> VectorWriter:
        """Make the writer that STARGATE_BULK selects."""
        config = self._config
        session = StargateSession(self._http, self._tokens, metrics=metrics)
        rest = StargateRest(session, stalls, metrics, config.vectors_table, config.concurrency)
        if config.bulk == "graphql":
            return StargateGraphql(rest, config.graphql_url, config.bulk_rows)
        if config.bulk == "custom":
            return StargateCustom(rest, config.bulk_url or "", config.bulk_rows)
        return rest

    async def nearest(
        self,
        question: Sequence[float],
        limit: int,
        *,
        model: str | None,
        page_size: int,
        on_rows: Callable[[int], None],
    ) -> NearestRows:
        """Scan all vectors and keep the nearest: Stargate v2 has no vector index."""
        nearest = Nearest(question, limit, model)
        async for page in self.vectors.scan(page_size):
            for row in page.rows:
                nearest.add(row)
            on_rows(len(page.rows))
        return nearest.result()

    def check_settings(self) -> list[Finding]:
        """Warn if there is neither a token nor a user name."""
        if self._config.token or self._config.username:
            return []
        remedy = "set STARGATE_AUTH_TOKEN, or STARGATE_USERNAME, _PASSWORD and _AUTH_URL"
        return [warning("settings", "there is no token for Stargate", remedy)]

    async def describe(self) -> list[Finding]:
        """Check the columns and the key of the table of vectors."""
        return await self._checks().describe()

    async def check(self, *, dimensions: int, write: bool) -> list[Finding]:
        """Run the doctor's checks."""
        return await self._checks().run(dimensions=dimensions, write=write)

    def _checks(self) -> StargateChecks:
        return StargateChecks(self._config, self._http, self._tokens)


def token_source(config: StargateConfig, http: HttpClient) -> TokenSource:
    """Where Stargate's tokens come from."""
    if config.username and config.password and config.auth_url:
        return FetchedToken(http, config.username, config.password, config.auth_url)
    return FixedToken(config.token)


def _vectors(
    session: StargateSession, config: StargateConfig, retry: Retry
) -> StargateReader[StoredVector]:
    model_column = config.model_column

    def parse(row: Columns) -> StoredVector:
        model = row.get(model_column) if model_column else None
        return StoredVector(_id_in(row), row.get("vector"), model)

    columns = ["page_id", "vector", *([model_column] if model_column else [])]
    return StargateReader(session, config.vectors_table, "STARGATE_TABLE", columns, parse, retry)


def _parse_page(row: Columns) -> Page:
    body = row.get("body")
    if body is not None and not isinstance(body, str):
        raise ConfigurationError(
            "the column body of the table of pages is not text",
            remedy="correct STARGATE_PAGES_TABLE",
        )
    return Page(_id_in(row), body)


def _id_in(row: Columns) -> str:
    page_id = row.get("page_id")
    if not isinstance(page_id, str):
        raise ConfigurationError(
            "a row has a page_id that is not text",
            remedy="run `gibsey-embedder doctor`, which checks the tables",
        )
    return page_id
