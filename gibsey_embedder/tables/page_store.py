"""The two tables that commands compare: the pages, and their vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from connectors.http.client import HttpClient
from connectors.observability.metrics import Metrics
from connectors.stores.stargate.errors import StargateTable
from connectors.stores.stargate.rest import StargateSession
from dataflow.config.settings import Settings
from dataflow.wiring import stargate_tokens
from gibsey_embedder.tables.row_checks import Page, StoredVector
from gibsey_embedder.tables.rows import Columns, Rows
from gibsey_embedder.terminal.retry_policy import GaveUpError, RetryPolicy


@dataclass(frozen=True, slots=True)
class PageStore:
    """The tables.

    Attributes:
        pages: STARGATE_PAGES_TABLE.
        vectors: STARGATE_TABLE.
    """

    pages: Rows[Page]
    vectors: Rows[StoredVector]

    async def check_columns(self) -> None:
        """See that both tables have the columns that are read.

        Raises:
            GaveUpError: One has not.
        """
        await self.pages.check_columns()
        await self.vectors.check_columns()


@asynccontextmanager
async def open_store(
    settings: Settings, retry_policy: RetryPolicy, http: HttpClient | None = None
) -> AsyncIterator[PageStore]:
    """Reach the tables as the settings say; connections are closed at the end.

    Args:
        settings: The settings in force.
        retry_policy: Tries again what passes.
        http: A client to share; it is closed at the end, too.
    """
    http = http or HttpClient(settings.http_ca_file)
    session = StargateSession(http, stargate_tokens(settings, http), Metrics())
    try:
        yield PageStore(
            _pages(settings, session, retry_policy), _vectors(settings, session, retry_policy)
        )
    finally:
        await http.close()


def _pages(settings: Settings, session: StargateSession, retry_policy: RetryPolicy) -> Rows[Page]:
    table = _table(settings, settings.stargate_pages_table)
    columns = ["page_id", "body"]
    return Rows(session, table, "STARGATE_PAGES_TABLE", columns, _read_page, retry_policy)


def _vectors(
    settings: Settings, session: StargateSession, retry_policy: RetryPolicy
) -> Rows[StoredVector]:
    column = settings.stargate_model_column
    table = _table(settings, settings.stargate_table, column)
    columns = ["page_id", "vector", *([column] if column else [])]

    def read(row: Columns) -> StoredVector:
        return StoredVector(_id_of(row), row.get("vector"), row.get(column) if column else None)

    return Rows(session, table, "STARGATE_TABLE", columns, read, retry_policy)


def _table(settings: Settings, name: str, model_column: str | None = None) -> StargateTable:
    return StargateTable(settings.stargate_url, settings.stargate_keyspace, name, model_column)


def _read_page(row: Columns) -> Page:
    body = row.get("body")
    if body is not None and not isinstance(body, str):
        raise GaveUpError("the column body of the pages is no text; correct STARGATE_PAGES_TABLE")
    return Page(_id_of(row), body)


def _id_of(row: Columns) -> str:
    page_id = row.get("page_id")
    if not isinstance(page_id, str):
        raise GaveUpError(
            "a row has no page_id of text; `gibsey-embedder doctor` looks at the tables"
        )
    return page_id
