"""The nearest of many vectors, one by one."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from gibsey_embedder.search.nearest import Nearest
from gibsey_embedder.tables.row_checks import StoredVector

NUMBERS = st.floats(-1, 1, width=32)
VECTORS = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), max_size=30)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*other)


@given(VECTORS, st.integers(1, 6))
def test_the_nearest_are_those_that_sorting_all_would_give(
    vectors: list[list[float]], limit: int
) -> None:
    question = [0.6, 0.0, 0.8]
    nearest = Nearest(question, limit)
    for number, values in enumerate(vectors):
        nearest.add(StoredVector(str(number), values))
    right = sorted((cosine(question, v) for v in vectors if any(v)), reverse=True)[:limit]
    found = [match.score for match in nearest.best]
    assert len(found) == len(right)
    assert all(abs(a - b) < 1e-9 for a, b in zip(found, right, strict=True))
    assert nearest.unfit == sum(not any(v) for v in vectors)


def test_what_cannot_be_compared_is_passed_over_and_counted() -> None:
    nearest = Nearest([1.0, 0.0], 5, model="m")
    for values in (None, [], [1.0], ["NaN", 1.0], [math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0]):
        nearest.add(StoredVector("bad", values, "m"))
    nearest.add(StoredVector("other", [1.0, 0.0], "n"))
    nearest.add(StoredVector("long", [22.5, 0.0], "m"))
    assert (nearest.compared, nearest.unfit, nearest.other_model) == (1, 7, 1)
    assert [(m.page_id, m.score) for m in nearest.best] == [("long", 1.0)]
