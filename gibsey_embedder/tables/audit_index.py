"""Keeps on disk what an audit has found, so that its memory does not grow with the tables.

A merge of both tables in the order of Cassandra's tokens would need less, but a store may not
return the tokens, so nothing would show that the order is broken. A set on disk depends on no
order; it costs 50 bytes of a temporary file and about 10 µs per row.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType

from gibsey_embedder.tables.row_checks import KINDS, Kind, RowProblem

CACHE_KB = 8192

_TABLES = """
CREATE TABLE pages (page_id TEXT PRIMARY KEY, has_text INT NOT NULL) WITHOUT ROWID;
CREATE TABLE vectors (page_id TEXT PRIMARY KEY, is_good INT NOT NULL) WITHOUT ROWID;
CREATE TABLE candidates (page_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE problems (page_id TEXT PRIMARY KEY, kind TEXT, detail TEXT) WITHOUT ROWID;
"""
_CANDIDATES = """
INSERT INTO candidates
SELECT page_id FROM pages WHERE has_text AND page_id NOT IN (SELECT page_id FROM vectors)
UNION
SELECT page_id FROM vectors WHERE NOT is_good OR page_id NOT IN (SELECT page_id FROM pages)
"""


class AuditIds:
    """The ids of both tables, the candidates for a problem, and the confirmed problems."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile(prefix="gibsey-audit-") as file:
            self._database = sqlite3.connect(file.name)
            self._database.executescript(_TABLES)
        # From here on, the file has no name, so even a kill leaves nothing behind.
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KB}"):
            self._database.execute(f"PRAGMA {setting}")

    def __enter__(self) -> AuditIds:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def add_pages(self, pages: Iterable[tuple[str, bool]]) -> None:
        """Add rows of the table of pages: the id, and whether the page has text."""
        self._database.executemany("INSERT OR REPLACE INTO pages VALUES (?, ?)", pages)

    def add_vectors(self, vectors: Iterable[tuple[str, bool]]) -> None:
        """Add rows of the table of vectors: the id, and whether the vector is good."""
        self._database.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", vectors)

    def compare(self) -> int:
        """Find the ids that may have a problem; return their number."""
        self._database.execute(_CANDIDATES)
        return self._count("SELECT count(*) FROM candidates")

    def candidates(self, size: int) -> Iterator[list[str]]:
        """Return the ids that may have a problem, in batches."""
        return self._batches("candidates", size)

    def set_problem(self, page_id: str, problem: RowProblem | None) -> None:
        """Set the confirmed problem of an id; None: it has none."""
        if problem is None:
            self._database.execute("DELETE FROM problems WHERE page_id = ?", (page_id,))
            return
        row = (page_id, problem.kind, problem.detail)
        self._database.execute("INSERT OR REPLACE INTO problems VALUES (?, ?, ?)", row)

    def candidate_kind(self, page_id: str) -> Kind:
        """Return the kind of problem that the scan suspects for an id."""
        if not self._has("vectors", page_id):
            return "missing"
        return "bad-vector" if self._has("pages", page_id) else "orphan"

    def problem_ids(self, size: int) -> Iterator[list[str]]:
        """Return the ids that have a problem, in batches; the caller may set problems meanwhile."""
        return self._batches("problems", size)

    def problems(self, kind: Kind, limit: int) -> list[tuple[str, str]]:
        """Return the first ids with this kind of problem, and the details."""
        query = "SELECT page_id, detail FROM problems WHERE kind = ? ORDER BY page_id LIMIT ?"
        return list(self._database.execute(query, (kind, limit)))

    def counts(self) -> dict[Kind, int]:
        """Return the number of problems of each kind."""
        query = "SELECT kind, count(*) FROM problems GROUP BY kind"
        counts: dict[str, int] = dict(self._database.execute(query).fetchall())
        return {kind: counts.get(kind, 0) for kind in KINDS}

    def pages(self) -> int:
        """Return the number of pages that the scan read."""
        return self._count("SELECT count(*) FROM pages")

    def vectors(self) -> int:
        """Return the number of vectors that the scan read."""
        return self._count("SELECT count(*) FROM vectors")

    def _batches(self, table: str, size: int) -> Iterator[list[str]]:
        query = f"SELECT page_id FROM {table} WHERE page_id > ? ORDER BY page_id LIMIT ?"  # noqa: S608 - ours
        last = ""
        while batch := [row[0] for row in self._database.execute(query, (last, size))]:
            yield batch
            last = batch[-1]

    def _has(self, table: str, page_id: str) -> bool:
        query = f"SELECT 1 FROM {table} WHERE page_id = ?"  # noqa: S608 - ours
        return self._database.execute(query, (page_id,)).fetchone() is not None

    def _count(self, query: str) -> int:
        return int(self._database.execute(query).fetchone()[0])
