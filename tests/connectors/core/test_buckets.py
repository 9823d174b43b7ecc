from __future__ import annotations

from connectors.core.buckets import BUCKET_KEYS, bucket_of


def test_a_page_is_in_the_same_bucket_in_every_process_and_version():
    known = {"42": "08-fi", "a/b": "12-2eu", "漢字": "15-5m3", " ": "05-2wu"}
    assert {page_id: bucket_of(page_id) for page_id in known} == known


def test_pages_spread_over_all_buckets():
    sizes = dict.fromkeys(BUCKET_KEYS, 0)
    for n in range(16_000):
        sizes[bucket_of(f"page-{n}")] += 1
    assert min(sizes.values()) > 800
    assert max(sizes.values()) < 1200
