from __future__ import annotations

import tracemalloc

import pytest

from connectors.embedders.cache import RESERVED_BYTES, VectorCache
from connectors.embedders.text_rules import TextRules
from connectors.observability.metrics import Metrics


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
