"""A table behind Stargate: the URLs of its rows and the CQL that creates it."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.stores.stargate.row_keys import path_segment


@dataclass(frozen=True, slots=True)
class StargateTable:
    """A table behind Stargate.

    Attributes:
        url: Base URL of the REST API v2, without a trailing slash.
        keyspace: The keyspace.
        table: The table.
        model_column: The text column for the model that made the vector; None: not written.
    """

    url: str
    keyspace: str
    table: str
    model_column: str | None = None

    @property
    def name(self) -> str:
        """Keyspace and table."""
        return f"{self.keyspace}.{self.table}"

    @property
    def rows_url(self) -> str:
        """The URL below which the rows are."""
        return f"{self.url}/v2/keyspaces/{self.keyspace}/{self.table}"

    def row_url(self, page_id: str) -> str:
        """Return the URL of one row.

        Raises:
            UnicodeEncodeError: The id contains a lone surrogate.
        """
        return f"{self.url}/v2/keyspaces/{self.keyspace}/{self.table}/{path_segment(page_id)}"

    @property
    def schema_url(self) -> str:
        """The URL of the table's schema."""
        return f"{self.url}/v2/schemas/keyspaces/{self.keyspace}/tables/{self.table}"

    @property
    def cql(self) -> str:
        """The statement that creates the table of vectors."""
        model = f", {self.model_column} text" if self.model_column else ""
        return (
            f"CREATE TABLE {self.name} "
            f"(page_id text PRIMARY KEY, vector frozen<list<float>>{model});"
        )

    def cql_of_column(self, column: str) -> str:
        """Return the statement that adds a missing column."""
        cql_type = "frozen<list<float>>" if column == "vector" else "text"
        return f"ALTER TABLE {self.name} ADD {column} {cql_type};"
