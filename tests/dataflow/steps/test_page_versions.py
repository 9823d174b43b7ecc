from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from dataflow.steps.changes import PACKED_BYTES, Version
from dataflow.steps.page_versions import BY_FALLBACK, PageVersion, PageVersions

pages = st.sampled_from([f"page {n}" for n in range(12)])
prints = st.none() | st.binary(min_size=16, max_size=16).filter(any)
puts = st.lists(st.tuples(pages, st.integers(1, 9), prints), max_size=60)


def version(offset: int) -> Version:
    return Version(None, 1, 0, 0, offset)


class NewestPages:
    """The simplest model of `PageVersions`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.known: dict[str, PageVersion] = {}

    def put(self, page_id: str, change: PageVersion) -> None:
        self.known.pop(page_id, None)
        self.known[page_id] = change
        while len(self.known) > self.limit:
            del self.known[next(iter(self.known))]


@given(puts, st.integers(1, 8), st.integers(0, 60))
def test_the_latest_pages_are_remembered_and_the_oldest_ones_dropped(history, limit, at):
    versions, model = PageVersions(pages=limit), NewestPages(limit)
    for turn, (page_id, offset, fingerprint) in enumerate(history):
        if turn == at:  # a restart in between changes nothing
            versions = PageVersions(versions.pack(), pages=limit)
        versions.put(page_id, version(offset), fingerprint)
        model.put(page_id, PageVersion(version(offset), fingerprint))
    assert len(versions) == len(model.known)
    for page_id in {page for page, _, _ in history}:
        assert versions.get(page_id) == model.known.get(page_id)


def test_a_page_that_was_deleted_is_remembered_without_a_text():
    versions = PageVersions()
    versions.put("p", version(1), None)
    assert versions.get("p") == PageVersion(version(1), None)
    assert versions.get("q") is None


@given(
    st.lists(st.tuples(pages, st.sampled_from([BY_FALLBACK, bytes([1] * 16), None])), max_size=60),
    st.integers(1, 8),
    st.integers(0, 60),
)
def test_pages_with_a_vector_of_the_fallback_are_counted_across_restarts(history, limit, at):
    changes: list[int] = []
    versions, model = PageVersions(pages=limit, other_space=changes.append), NewestPages(limit)
    for turn, (page_id, fingerprint) in enumerate(history):
        if turn == at:
            changes = []
            versions = PageVersions(versions.pack(), pages=limit, other_space=changes.append)
        versions.put(page_id, version(turn), fingerprint)
        model.put(page_id, PageVersion(version(turn), fingerprint))
    assert sum(changes) == sum(c.fingerprint == BY_FALLBACK for c in model.known.values())


def test_the_snapshot_of_a_full_bucket_has_60_bytes_per_page():
    versions = PageVersions(pages=100)
    for n in range(250):
        versions.put(f"{n}" * 1000, version(n), bytes(range(16)))
    assert len(versions) == 100
    assert len(versions.pack()) == 100 * (12 + PACKED_BYTES + 16) == 100 * 60


def test_the_memory_stops_growing_once_the_bucket_is_full():
    tracemalloc.start()
    try:
        versions = PageVersions()
        memory = []
        for number in range(40_000):
            versions.put(f"page {number}", version(number), b"1" * 16)
            if number in (10_000, 39_999):
                memory.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    full, later = memory
    assert later < 1.02 * full


def test_a_full_bucket_drops_several_of_the_oldest_pages_at_a_time():
    """A dict passes over all deleted entries to find its first one."""
    limit, drops = 256, 4
    versions = PageVersions(pages=limit)
    for n in range(3 * limit):
        versions.put(f"{n}", version(n), bytes(range(16)))
        assert min(n + 1, limit) <= len(versions) < limit + drops
        assert all(versions.get(f"{known}") for known in range(max(0, n + 1 - limit), n + 1, 17))
    again = PageVersions(versions.pack(), pages=limit)
    assert len(again) == len(versions)
    assert again.get(f"{3 * limit - 1}") == versions.get(f"{3 * limit - 1}")
