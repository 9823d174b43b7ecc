"""The table `gibsey.pages` in a real Cassandra."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from gibsey_embedder.fakes.process import stop_process

SCRIPT = Path(__file__).with_name("cql.py")


class Pages:
    """A session with Cassandra.

    Args:
        python: A Python with cassandra-driver.
        address: `host:port` of Cassandra.
    """

    def __init__(self, python: str, address: str) -> None:
        self._process = subprocess.Popen(
            [python, str(SCRIPT), address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def __enter__(self) -> Pages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stop_process(self._process)

    def run(self, statement: str, *values: object) -> list[list[object]]:
        """Run a statement; each `%s` in it is a value.

        Returns:
            The rows.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([statement, values]) + "\n")
        self._process.stdin.flush()
        return self._answer()

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

    def _answer(self) -> list[list[object]]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the session with Cassandra has ended; is cassandra-driver there?"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        rows: list[list[object]] = answer["rows"]
        return rows
