from __future__ import annotations

import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.embedders.admission import DimensionMismatchError, InvalidVectorError, admit

finite = st.floats(allow_nan=False, allow_infinity=False)
usual = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6)


def unit(values: list[float]) -> list[float]:
    length = math.hypot(*values)
    return [value / length for value in values]


@given(st.lists(usual, min_size=3, max_size=40).filter(any))
def test_an_admitted_vector_has_unit_length_and_the_same_direction(values):
    admitted = orjson.loads(admit(values, len(values)))
    assert math.hypot(*admitted) == pytest.approx(1.0, abs=1e-6)
    assert admitted == pytest.approx(unit(values), abs=2e-6)


@given(st.lists(finite | st.integers(-(2**70), 2**70), min_size=1, max_size=8))
def test_any_list_of_finite_numbers_is_admitted_with_unit_length_or_rejected(values):
    try:
        admitted = admit(values, len(values))
    except InvalidVectorError:
        return
    assert math.hypot(*orjson.loads(admitted)) == pytest.approx(1.0, abs=1e-6)


def test_a_vector_of_unit_length_keeps_its_numbers():
    text = b"[0.6,0.8,0.0,-1.5e-9]"
    assert orjson.loads(admit(orjson.loads(text), 4)) == orjson.loads(text)
    assert admit([0.6, 0.8], 2) == b"[0.6,0.8]"


def test_a_length_that_rounding_could_push_over_the_tolerance_is_normalised():
    values = [1.0 + 9.8e-7, 0.0]
    assert orjson.loads(admit(values, 2)) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([math.nan, 1.0], "NaN"),
        ([math.inf, 1.0], "infinite"),
        ([-math.inf, math.inf], "infinite"),
        ([10**400, 1], "infinite"),
        ([0.0, -0.0], "zero"),
        ([5e-324, 5e-324], "rounding"),
        ([True, False], "true or false"),
        ([None, 1.0], "null"),
        (["0.6", 0.8], "a text"),
        ([[0.6], 0.8], "list"),
        ("[0.6, 0.8]", "a text"),
        (None, "null"),
        ({"0": 1}, "an object"),
    ],
)
def test_a_value_that_is_not_a_vector_is_rejected_with_the_reason(values, reason):
    with pytest.raises(InvalidVectorError, match=reason):
        admit(values, 2)


@pytest.mark.parametrize("size", [0, 1, 767, 769])
def test_the_error_of_another_size_names_both_sizes(size):
    with pytest.raises(
        DimensionMismatchError, match=rf"{size} dimensions instead of 768"
    ) as caught:
        admit([1.0] * size, 768)
    assert caught.value.seen == size


def test_an_admitted_vector_is_json_for_any_parser():
    assert json.loads(admit([3.0, 4.0], 2)) == [0.6, 0.8]
