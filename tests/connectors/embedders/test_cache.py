from __future__ import annotations

from connectors.embedders.cache import VectorCache
from connectors.embedders.text_rules import TextRules
from connectors.observability.metrics import Metrics


def test_the_cache_holds_a_number_of_vectors_and_drops_the_least_recently_used():
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


def test_a_cache_of_no_pages_is_off_and_counts_nothing():
    metrics = Metrics()
    cache, rules = VectorCache(0, metrics), TextRules("m")
    cache.put(rules, "a", b"[1]")
    assert cache.get(rules, "a") is None
    assert metrics.cache.labels("miss")._value.get() == 0
