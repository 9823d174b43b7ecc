"""Nearest-neighbour search by a scan."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from connectors.stores.base import StoredVector
from connectors.stores.nearest import Nearest

NUMBERS = st.floats(-1, 1, width=32)
VECTORS = st.lists(st.lists(NUMBERS, min_size=3, max_size=3), max_size=30)


def cosine(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*other)


@given(VECTORS, st.integers(1, 6))
def test_the_result_is_the_same_as_after_sorting_all_vectors(
    vectors: list[list[float]], limit: int
) -> None:
    question = [0.6, 0.0, 0.8]
    nearest = Nearest(question, limit)
    for number, values in enumerate(vectors):
        nearest.add(StoredVector(str(number), values))
    right = sorted((cosine(question, v) for v in vectors if any(v)), reverse=True)[:limit]
    result = nearest.result()
    found = [match.score for match in result.matches]
    assert len(found) == len(right)
    assert all(abs(a - b) < 1e-9 for a, b in zip(found, right, strict=True))
    assert result.unfit == sum(not any(v) for v in vectors)


def test_rows_that_cannot_be_compared_are_skipped_and_counted() -> None:
    nearest = Nearest([1.0, 0.0], 5, model="m")
    for values in (None, [], [1.0], ["NaN", 1.0], [math.nan, 1.0], [math.inf, 1.0], [0.0, 0.0]):
        nearest.add(StoredVector("bad", values, "m"))
    nearest.add(StoredVector("other", [1.0, 0.0], "n"))
    nearest.add(StoredVector("long", [22.5, 0.0], "m"))
    result = nearest.result()
    assert (result.compared, result.unfit, result.other_model) == (1, 7, 1)
    assert [(m.page_id, m.score) for m in result.matches] == [("long", 1.0)]
