"""Where Stargate is, how rows are written, and which tables it has, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from connectors.stores.stargate.table import StargateTable


@dataclass(frozen=True, slots=True)
class StargateConfig:
    """The settings of Stargate; its `repr` shows no secret.

    Attributes:
        url: Base URL of the REST API v2, without a trailing slash.
        keyspace: The keyspace of both tables.
        vectors: The name of the table of vectors.
        pages: The name of the table of pages.
        model_column: The text column for the model that made the vector; None: not written.
        token: A fixed token; empty: none.
        username: The user for whom tokens are fetched, with `password` and `auth_url`.
        password: The user's password.
        auth_url: The URL of the auth service.
        bulk: How rows are written: one per request (`rest`), or many.
        bulk_rows: The most rows in one request with `graphql` and `custom`.
        bulk_url: The URL of the custom bulk service.
        graphql_url: GraphQL's URL without the keyspace.
        concurrency: The most requests in flight.
    """

    url: str
    keyspace: str = "gibsey"
    vectors: str = "page_vectors"
    pages: str = "pages"
    model_column: str | None = None
    token: str = field(default="", repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    auth_url: str | None = None
    bulk: Literal["rest", "graphql", "custom"] = "rest"
    bulk_rows: int = 100
    bulk_url: str | None = None
    graphql_url: str = ""
    concurrency: int = 32

    @property
    def vectors_table(self) -> StargateTable:
        """The table of vectors."""
        return StargateTable(self.url, self.keyspace, self.vectors, self.model_column)

    @property
    def pages_table(self) -> StargateTable:
        """The table of pages."""
        return StargateTable(self.url, self.keyspace, self.pages)
