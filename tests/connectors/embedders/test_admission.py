from __future__ import annotations

import json
import math
import tracemalloc

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.embedders.base import (
    RESERVED_BYTES,
    DimensionMismatchError,
    InvalidVectorError,
    TextRules,
    VectorCache,
    admit,
)
from connectors.observability.metrics import Metrics

finite = st.floats(allow_nan=False, allow_infinity=False)
usual = st.floats(-1e6, 1e6).filter(lambda v: v == 0 or abs(v) > 1e-6)


def unit(values: list[float]) -> list[float]:
    length = math.hypot(*values)
    return [value / length for value in values]


@given(st.lists(usual, min_size=3, max_size=40).filter(any))
def test_what_is_admitted_has_unit_length_and_the_same_direction(values):
    admitted = orjson.loads(admit(values, len(values)))
    assert math.hypot(*admitted) == pytest.approx(1.0, abs=1e-6)
    assert admitted == pytest.approx(unit(values), abs=2e-6)


@given(st.lists(finite | st.integers(-(2**70), 2**70), min_size=1, max_size=8))
def test_any_list_of_finite_numbers_is_admitted_with_unit_length_or_refused(values):
    try:
        admitted = admit(values, len(values))
    except InvalidVectorError:
        return
    assert math.hypot(*orjson.loads(admitted)) == pytest.approx(1.0, abs=1e-6)


def test_numbers_of_unit_length_are_passed_on_as_they_were_written():
    text = b"[0.6,0.8,0.0,-1.5e-9]"
    assert orjson.loads(admit(orjson.loads(text), 4)) == orjson.loads(text)
    assert admit([0.6, 0.8], 2) == b"[0.6,0.8]"


def test_a_length_that_rounding_to_float32_could_push_over_the_promise_is_scaled():
    values = [1.0 + 9.8e-7, 0.0]
    assert orjson.loads(admit(values, 2)) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("values", "word"),
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
def test_what_is_no_vector_is_refused_with_the_reason(values, word):
    with pytest.raises(InvalidVectorError, match=word):
        admit(values, 2)


@pytest.mark.parametrize("size", [0, 1, 767, 769])
def test_another_size_is_told_apart_and_names_both_sizes(size):
    with pytest.raises(
        DimensionMismatchError, match=rf"{size} dimensions instead of 768"
    ) as caught:
        admit([1.0] * size, 768)
    assert caught.value.seen == size


@given(st.text(), st.text(), st.booleans())
def test_a_prepared_text_is_prefix_and_body_lower_cased_where_it_must_be(prefix, body, lowercase):
    rules = TextRules("m", prefix=prefix, lowercase=lowercase)
    assert rules.prepare(body) == ((prefix + body).lower() if lowercase else prefix + body)


def test_a_fingerprint_tells_every_rule_and_the_text_apart():
    rules = [
        TextRules("m"),
        TextRules("n"),
        TextRules("m", prefix="p"),
        TextRules("m", lowercase=True),
        TextRules("m", long_pages="truncate"),
        TextRules("mp"),
    ]
    texts = ["", "a", "A", "pa", "\x00", "\ud800"]
    prints = [rule.fingerprint(text) for rule in rules for text in texts]
    assert len(set(prints)) == len(prints)
    assert {len(fingerprint) for fingerprint in prints} == {16}


def test_a_fingerprint_is_the_same_in_every_process():
    known = TextRules("nomic-embed-text", prefix="search_document: ").fingerprint("A page.")
    assert known.hex() == "74a7d56c5130654a66b308a0c9c148c6"


def test_the_cache_holds_so_many_vectors_and_drops_the_least_recently_used():
    metrics = Metrics()
    cache, rules = VectorCache(2, metrics), TextRules("m")
    cache.put(rules, "a", b"[1]")
    cache.put(rules, "b", b"[2]")
    assert cache.get(rules, "a") == b"[1]"
    cache.put(rules, "c", b"[3]")
    assert cache.get(rules, "b") is None
    assert cache.get(rules, "a") == b"[1]"
    assert cache.get(rules.lowercased(), "a") is None
    counted = {r: metrics.cache.labels(r)._value.get() for r in ("hit", "miss")}
    assert counted == {"hit": 2, "miss": 2}


def test_a_cache_that_takes_its_memory_at_once_serves_as_any_other():
    cache, rules = VectorCache(3, Metrics(), reserved_bytes=1000), TextRules("m")
    for number in range(10):
        cache.put(rules, str(number), b"[%d]" % number)
    kept = [cache.get(rules, str(number)) for number in range(10)]
    assert kept == [None] * 7 + [b"[7]", b"[8]", b"[9]"]


def test_a_cache_takes_no_more_memory_once_vectors_come():
    tracemalloc.start()
    try:
        cache, rules = VectorCache(500, Metrics(), reserved_bytes=9600), TextRules("m")
        empty, _ = tracemalloc.get_traced_memory()
        for number in range(2000):
            cache.put(rules, str(number), b"1" * 9500)
        full, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert full == pytest.approx(empty, rel=0.03)


def test_however_large_a_cache_is_it_takes_a_bounded_part_at_once():
    tracemalloc.start()
    try:
        VectorCache(10_000_000, Metrics(), reserved_bytes=9600)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 1.05 * RESERVED_BYTES


def test_a_cache_of_no_pages_is_off_and_counts_nothing():
    metrics = Metrics()
    cache, rules = VectorCache(0, metrics), TextRules("m")
    cache.put(rules, "a", b"[1]")
    assert cache.get(rules, "a") is None
    assert metrics.cache.labels("miss")._value.get() == 0


def test_numbers_come_out_as_json_that_any_parser_reads():
    assert json.loads(admit([3.0, 4.0], 2)) == [0.6, 0.8]
