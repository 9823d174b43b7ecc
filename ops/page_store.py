"""The two tables that commands compare: the pages, and their vectors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from connectors.http import Http
from connectors.metrics import Metrics
from connectors.stargate import StargateSession
from connectors.stargate_answers import StargateTable
from dataflow.connections import stargate_tokens
from dataflow.settings import Settings
from ops.patience import GaveUp, Patience
from ops.row_faults import Page, StoredVector
from ops.rows import Columns, Rows


@dataclass(frozen=True, slots=True)
class PageStore:
    """The tables.

    Attributes:
        pages: STARGATE_PAGES_TABLE.
        vectors: STARGATE_TABLE.
    """

    pages: Rows[Page]
    vectors: Rows[StoredVector]


@asynccontextmanager
async def open_store(
    settings: Settings, patience: Patience, http: Http | None = None
) -> AsyncIterator[PageStore]:
    """Reach the tables as the settings say; connections are closed at the end.

    Args:
        settings: The settings in force.
        patience: Tries again what passes.
        http: A client to share; it is closed at the end, too.
    """
    http = http or Http(settings.http_ca_file)
    session = StargateSession(http, stargate_tokens(settings, http), Metrics())
    column = settings.stargate_model_column
    vector_columns = ["page_id", "vector", *([column] if column else [])]

    def read_vector(row: Columns) -> StoredVector:
        return StoredVector(_id_of(row), row.get("vector"), row.get(column) if column else None)

    def table(name: str) -> StargateTable:
        return StargateTable(settings.stargate_url, settings.stargate_keyspace, name)

    try:
        yield PageStore(
            Rows(
                session,
                table(settings.stargate_pages_table),
                "STARGATE_PAGES_TABLE",
                ["page_id", "body"],
                _read_page,
                patience,
            ),
            Rows(
                session,
                table(settings.stargate_table),
                "STARGATE_TABLE",
                vector_columns,
                read_vector,
                patience,
            ),
        )
    finally:
        await http.close()


def _read_page(row: Columns) -> Page:
    body = row.get("body")
    if body is not None and not isinstance(body, str):
        raise GaveUp("the column body of the pages is no text; correct STARGATE_PAGES_TABLE")
    return Page(_id_of(row), body)


def _id_of(row: Columns) -> str:
    page_id = row.get("page_id")
    if not isinstance(page_id, str):
        raise GaveUp("a row has no page_id of text; `gibsey-embedder doctor` looks at the tables")
    return page_id
