from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.core.buckets import BUCKET_KEYS, bucket_of
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import Record
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from dataflow.steps.changes import Change, Skipped, Version
from dataflow.steps.filter import Filter


def record(offset: int) -> Record:
    return Record("cdc.pages", 0, offset, 1, None, b"{}")


def change(page_id: str, offset: int = 0) -> Change:
    return Change(record(offset), page_id, "c", "b", Version(None, 1, 0, 0, offset))


def test_changes_pass_in_order_and_skipped_events_are_counted_and_settled():
    tracker, metrics = OffsetTracker(), Metrics()
    tracker.open([record(n) for n in range(3)])
    skipped = Skipped(record(1), "other", "skipped_op")
    passed = Filter(tracker, metrics, Shutdown())([change("a", 0), skipped, change("b", 2)])
    assert passed == [(bucket_of("a"), [change("a", 0)]), (bucket_of("b"), [change("b", 2)])]
    assert metrics.events.labels("other", "skipped_op")._value.get() == 1
    assert tracker.open_pages == 2
    tracker.settle(record(0))
    assert tracker.low_watermarks() == {0: 2}


def test_in_a_cluster_a_change_is_handed_over_to_the_process_of_its_bucket():
    tracker = OffsetTracker(shared=True)
    tracker.open([record(0)])
    assert len(Filter(tracker, Metrics(), Shutdown())([change("a")])) == 1
    assert tracker.open_pages == 0


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_all_changes_of_a_page_go_to_one_bucket(page_id):
    changes = [change(page_id, offset) for offset in range(3)]
    assert Filter(OffsetTracker(), Metrics(), Shutdown())(changes) == [
        (bucket_of(page_id), changes)
    ]
    assert bucket_of(page_id) in BUCKET_KEYS
