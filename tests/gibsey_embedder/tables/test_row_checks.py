"""What counts as a fault of a page and its vector."""

from __future__ import annotations

import array
import math

import pytest

from connectors.stores.base import Page, StoredVector
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.tables.row_checks import RowCheck, RowProblem, vector_problem

GOOD = embed_text("a page")
PAGE = Page("p", "a page")
WANTED = RowCheck(len(GOOD))


def vector(values: object = GOOD, model: object = None) -> StoredVector:
    return StoredVector("p", values, model)


@pytest.mark.parametrize("body", [None, "", " \n\t"])
def test_a_page_without_text_needs_no_vector_and_may_have_one(body: str | None) -> None:
    assert WANTED.pair(Page("p", body), None) is None
    assert WANTED.pair(Page("p", body), vector()) is None


def test_a_page_with_text_needs_a_vector_and_a_vector_a_page() -> None:
    assert WANTED.pair(PAGE, None) == RowProblem("missing")
    assert WANTED.pair(None, vector()) == RowProblem("orphan")
    assert WANTED.pair(PAGE, vector()) is None
    assert WANTED.pair(None, None) is None


@pytest.mark.parametrize(
    ("values", "flaw"),
    [
        (None, "no vector"),
        ([], "0 numbers instead of 768"),
        (GOOD[1:], "767 numbers instead of 768"),
        (["NaN", *GOOD[1:]], "holds NaN"),
        (["Infinity", *GOOD[1:]], "holds Infinity"),
        ([math.nan, *GOOD[1:]], "holds NaN or Infinity"),
        ([-math.inf, *GOOD[1:]], "holds NaN or Infinity"),
        ([None, *GOOD[1:]], "holds None"),
        ([True, *GOOD[1:]], "holds True"),
        ([0.0] * 768, "length 0 instead of 1"),
        ([22.5 * number for number in GOOD], "length 22.5 instead of 1"),
    ],
)
def test_the_problem_of_a_vector_is_named(values: object, flaw: str) -> None:
    assert vector_problem(values, 768).startswith(flaw)
    assert WANTED.pair(PAGE, vector(values)).kind == "bad-vector"


@pytest.mark.parametrize("length", [1 - 1e-6, 1 + 1e-6])
def test_the_tolerance_allows_for_float32(length: float) -> None:
    exact = math.hypot(*GOOD)
    stored = list(array.array("f", [number * length / exact for number in GOOD]))
    assert vector_problem(stored, 768) == ""
    assert vector_problem([number * (1 + 5e-7) for number in stored], 768) or length < 1


def test_the_model_counts_if_it_is_stored() -> None:
    wanted = RowCheck(768, "nomic-embed-text")
    assert wanted.pair(PAGE, vector(model="nomic-embed-text")) is None
    assert wanted.pair(PAGE, vector(model="old")) == RowProblem("other-model", "made by old")
    assert wanted.pair(PAGE, vector()) == RowProblem("other-model", "no model is stored")
    assert WANTED.pair(PAGE, vector(model="old")) is None
