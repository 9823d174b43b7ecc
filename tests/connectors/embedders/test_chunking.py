from __future__ import annotations

import math
import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.embedders import chunking
from connectors.embedders.admission import InvalidVectorError

words = st.text("abc.!? \n\t", max_size=400)
anything = st.text(max_size=400)


@given(words | anything, st.integers(1, 60))
def test_chunks_are_the_text_in_order_and_within_the_limit(text, limit):
    chunks = chunking.split_text(text, limit)
    assert all(0 < len(part) <= limit for part in chunks) or chunks == [text]
    place = 0
    for part in chunks:
        found = text.index(part, place)
        assert not text[place:found].strip()  # only blanks are dropped
        place = found + len(part)
    assert not text[place:].strip()


@given(st.text("abc.!? \n", min_size=41, max_size=2000), st.integers(20, 40))
def test_no_chunk_is_tiny(text, limit):
    text = text.replace(" ", "a").replace("\n", "b") if not text.strip() else text
    whole = "".join(chunking.split_text(text, limit)) == text  # no blank chunk was dropped
    assert not whole or all(len(part) >= limit / 3 for part in chunking.split_text(text, limit))


def test_a_text_that_fits_is_not_cut():
    assert chunking.split_text("one two", 7) == ["one two"]
    assert chunking.split_text("", 7) == [""]


def test_paragraphs_are_kept_together_before_sentences_and_sentences_before_words():
    first, second = "One two. Three four five.\n\n", "Six seven. Eight nine ten."
    assert chunking.split_text(first + second, 40) == [first, second]
    first, second = "One two three four five. ", "Six seven eight nine ten."
    assert chunking.split_text(first + second, 40) == [first, second]
    assert chunking.split_text("one two three four five", 20) == ["one two three ", "four five"]


def test_a_text_without_boundaries_is_cut_evenly():
    assert sorted(len(part) for part in chunking.split_text("x" * 1001, 500)) == [333, 334, 334]


@pytest.mark.parametrize("seen_as_one", ["e\u0301", "\U0001f469\u200d\U0001f4bb", "\u2764\ufe0f"])
def test_a_character_made_of_several_code_points_is_not_cut(seen_as_one):
    for part in chunking.split_text(seen_as_one * 100, 11):
        assert part.replace(seen_as_one, "") == ""


def test_an_endless_sequence_of_marks_is_cut():
    chunks = chunking.split_text("a" + "\u0301" * 100, 10)
    assert "".join(chunks) == "a" + "\u0301" * 100
    assert unicodedata.combining(chunks[1][0])


def test_a_chunk_needs_at_least_one_character():
    with pytest.raises(ValueError, match="at least one character"):
        chunking.split_text("ab", 0)


@pytest.mark.parametrize(("tokens", "chars"), [(2048, 6096), (512, 1488), (10, 1), (0, 1)])
def test_the_characters_that_fit_a_context_are_estimated_carefully(tokens, chars):
    assert chunking.chars_for(tokens) == chars


numbers = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda v: math.hypot(*v) > 0.1)


def as_unit(values: list[float]) -> bytes:
    return orjson.dumps([value / math.hypot(*values) for value in values])


@given(numbers, st.lists(st.integers(1, 10_000), min_size=1, max_size=9))
def test_the_mean_of_equal_vectors_is_that_vector(values, weights):
    vector = as_unit(values)
    mean = orjson.loads(chunking.mean_vector([vector] * len(weights), weights))
    assert mean == pytest.approx(orjson.loads(vector), abs=1e-6)


@given(numbers, numbers, st.integers(1, 100), st.integers(1, 100))
def test_the_mean_is_closer_to_the_longer_chunk_and_has_unit_length(first, second, short, more):
    a, b = as_unit(first), as_unit(second)
    try:
        even = orjson.loads(chunking.mean_vector([a, b], [short, short]))
        leaning = orjson.loads(chunking.mean_vector([a, b], [short, short + more]))
    except InvalidVectorError:
        return  # opposite vectors
    assert math.hypot(*leaning) == pytest.approx(1.0, abs=1e-6)
    assert math.dist(leaning, orjson.loads(b)) <= math.dist(even, orjson.loads(b)) + 1e-6


def test_vectors_that_cancel_each_other_out_have_no_mean():
    with pytest.raises(InvalidVectorError, match="cancel"):
        chunking.mean_vector([b"[0.6,0.8]", b"[-0.6,-0.8]"], [5, 5])
