"""What an audit has seen, on disk: its memory does not grow with the tables.

The rows of the two tables could be merged as they come, both in the order of Cassandra's tokens;
but Stargate tells no tokens, so nothing would show where the order is broken. A set on disk
depends on no order, and costs 50 bytes of a temporary file and about 10 µs a row.
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
CREATE TABLE suspects (page_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE faults (page_id TEXT PRIMARY KEY, kind TEXT, detail TEXT) WITHOUT ROWID;
"""
_SUSPECTS = """
INSERT INTO suspects
SELECT page_id FROM pages WHERE has_text AND page_id NOT IN (SELECT page_id FROM vectors)
UNION
SELECT page_id FROM vectors WHERE NOT is_good OR page_id NOT IN (SELECT page_id FROM pages)
"""


class AuditIds:
    """The ids of both tables, which of them are suspect, and the faults that are sure."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile(prefix="gibsey-audit-") as place:
            self._file = sqlite3.connect(place.name)
            self._file.executescript(_TABLES)
        # From here on the file has no name, so nothing of it is left, even by a kill.
        for setting in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KB}"):
            self._file.execute(f"PRAGMA {setting}")

    def __enter__(self) -> AuditIds:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def saw_pages(self, pages: Iterable[tuple[str, bool]]) -> None:
        """Note rows of the pages: the id, and whether it has text."""
        self._file.executemany("INSERT OR REPLACE INTO pages VALUES (?, ?)", pages)

    def saw_vectors(self, vectors: Iterable[tuple[str, bool]]) -> None:
        """Note rows of the vectors: the id, and whether the vector is good."""
        self._file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", vectors)

    def compare(self) -> int:
        """Find what looks wrong; returns how many ids are suspect."""
        self._file.execute(_SUSPECTS)
        return self._count("SELECT count(*) FROM suspects")

    def suspects(self, size: int) -> Iterator[list[str]]:
        """The suspect ids, in batches."""
        return self._batches("suspects", size)

    def set_fault(self, page_id: str, fault: RowProblem | None) -> None:
        """Note what is sure about an id: its fault, or that there is none."""
        if fault is None:
            self._file.execute("DELETE FROM faults WHERE page_id = ?", (page_id,))
            return
        row = (page_id, fault.kind, fault.detail)
        self._file.execute("INSERT OR REPLACE INTO faults VALUES (?, ?, ?)", row)

    def kind_seen(self, page_id: str) -> Kind:
        """What was found wrong with a suspect id when the tables were read."""
        if not self._has("vectors", page_id):
            return "missing"
        return "bad-vector" if self._has("pages", page_id) else "orphan"

    def faulty(self, size: int) -> Iterator[list[str]]:
        """The ids that have a fault, in batches; faults may be set meanwhile."""
        return self._batches("faults", size)

    def faults(self, kind: Kind, limit: int) -> list[tuple[str, str]]:
        """The first ids with a kind of fault, and their details."""
        asked = "SELECT page_id, detail FROM faults WHERE kind = ? ORDER BY page_id LIMIT ?"
        return list(self._file.execute(asked, (kind, limit)))

    def counts(self) -> dict[Kind, int]:
        """How many faults there are of each kind."""
        asked = "SELECT kind, count(*) FROM faults GROUP BY kind"
        found: dict[str, int] = dict(self._file.execute(asked).fetchall())
        return {kind: found.get(kind, 0) for kind in KINDS}

    def pages(self) -> int:
        """How many pages were seen."""
        return self._count("SELECT count(*) FROM pages")

    def vectors(self) -> int:
        """How many vectors were seen."""
        return self._count("SELECT count(*) FROM vectors")

    def _batches(self, table: str, size: int) -> Iterator[list[str]]:
        asked = f"SELECT page_id FROM {table} WHERE page_id > ? ORDER BY page_id LIMIT ?"  # noqa: S608 - ours
        after = ""
        while batch := [row[0] for row in self._file.execute(asked, (after, size))]:
            yield batch
            after = batch[-1]

    def _has(self, table: str, page_id: str) -> bool:
        asked = f"SELECT 1 FROM {table} WHERE page_id = ?"  # noqa: S608 - ours
        return self._file.execute(asked, (page_id,)).fetchone() is not None

    def _count(self, asked: str) -> int:
        return int(self._file.execute(asked).fetchone()[0])
