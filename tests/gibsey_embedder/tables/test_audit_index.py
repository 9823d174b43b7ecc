"""The comparison of both tables' ids, against sets in memory."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibsey_embedder.tables.audit_index import AuditIds
from gibsey_embedder.tables.row_checks import RowProblem

IDS = st.text("ab \u00e9\U0001f600'%_\"", min_size=1, max_size=3)
TABLE = st.dictionaries(IDS, st.booleans(), max_size=20)


@given(pages=TABLE, vectors=TABLE, chunk=st.integers(1, 5))
def test_candidates_are_the_same_as_with_two_sets(
    pages: dict[str, bool], vectors: dict[str, bool], chunk: int
) -> None:
    with AuditIds() as ids:
        for page in pages.items():
            ids.add_pages([page])
        ids.add_vectors(vectors.items())
        missing = {page for page, has_text in pages.items() if has_text and page not in vectors}
        wrong = {page for page, is_good in vectors.items() if not is_good or page not in pages}
        assert ids.compare() == len(missing | wrong)
        batches = list(ids.candidates(chunk))
        assert all(len(batch) <= chunk for batch in batches)
        found = [page for batch in batches for page in batch]
        assert len(found) == len(set(found))
        assert set(found) == missing | wrong
        assert (ids.pages(), ids.vectors()) == (len(pages), len(vectors))


def test_the_last_of_two_rows_with_one_id_counts() -> None:
    with AuditIds() as ids:
        ids.add_pages([("p", True), ("p", False)])
        assert ids.pages() == 1
        assert ids.compare() == 0


def test_problems_may_be_removed_during_the_iteration() -> None:
    with AuditIds() as ids:
        for number in range(5):
            ids.set_problem(f"p{number}", RowProblem("missing"))
        seen = []
        for batch in ids.problem_ids(2):
            seen += batch
            ids.set_problem(batch[0], None)
        assert seen == [f"p{number}" for number in range(5)]
        assert ids.counts()["missing"] == 2
        assert ids.problems("missing", 1) == [("p1", "")]


def test_no_file_remains_even_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with AuditIds() as ids:
        ids.add_pages((f"{number:0200}", True) for number in range(100_000))  # more than its cache
        assert ids.pages() == 100_000
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())
