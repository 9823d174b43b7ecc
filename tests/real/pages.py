"""The table `gibsey.pages` in a real Cassandra."""

from __future__ import annotations

from collections.abc import Iterable

from tests.real.cql_session import Session


class Pages(Session):
    """A session in the keyspace `gibsey`.

    Args:
        python: A Python with cassandra-driver.
        address: `host:port` of Cassandra.
    """

    def __init__(self, python: str, address: str) -> None:
        super().__init__(python, address, "gibsey")

    def insert(self, page_id: str, body: str) -> None:
        """Insert a page."""
        self.run("INSERT INTO pages (page_id, body) VALUES (%s, %s)", page_id, body)

    def update(self, page_id: str, body: str) -> None:
        """Update its body."""
        self.run("UPDATE pages SET body = %s WHERE page_id = %s", body, page_id)

    def delete(self, page_id: str) -> None:
        """Delete its row."""
        self.run("DELETE FROM pages WHERE page_id = %s", page_id)

    def texts(self, page_ids: Iterable[str]) -> dict[str, str | None]:
        """What a page must be a vector of: its body; None where that is blank or absent."""
        found: dict[str, str | None] = {}
        for page_id in page_ids:
            rows = self.run("SELECT body FROM pages WHERE page_id = %s", page_id)
            body = rows[0][0] if rows else None
            found[page_id] = body if isinstance(body, str) and body.strip() else None
        return found
