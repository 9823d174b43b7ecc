"""What the snapshot of the step holds."""

from __future__ import annotations

import pickle

import pytest
from structlog.testing import capture_logs

from connectors.core.buckets import BUCKETS
from dataflow.steps.window import STATE_VERSION
from tests.dataflow.steps.manual_window import ManualWindow, ProcessEndedError, change, texts


def test_changes_that_were_not_emitted_continue_after_a_restart():
    window = ManualWindow()
    window.take(*(change(page, page, at=n) for n, page in enumerate("abcd")))
    waiting, in_flight, answered, emitted = window.batcher.jobs[:4]
    for job in (in_flight, answered, emitted):
        job.sent = True
    window.batcher.embed(emitted)
    assert texts(window.emitted()) == ["d=[d]"]
    window.batcher.embed(answered)
    restarted = window.restarted()
    assert [job.text for job in restarted.batcher.waiting] == ["a", "b", "c"]
    assert restarted.tracker.open_pages == 3
    assert restarted.logic.notify_at() is not None
    assert texts(restarted.finished()) == ["a=[a]", "b=[b]", "c=[c]"]
    assert waiting.vector is None


def test_versions_texts_and_deletes_are_remembered_across_a_restart():
    window = ManualWindow(delete_rows=True)
    window.take(change("a", "1", at=0, written=10), change("b", None, at=1, written=10))
    window.finished()
    restarted = window.restarted()
    restarted.take(
        change("a", "0", at=2, written=9),
        change("a", "1", at=3, written=11),
        change("b", "0", at=4, written=9),
    )
    assert restarted.batcher.jobs == []
    assert restarted.counts() == {"skipped_stale": 2, "skipped_unchanged": 1}


def test_of_a_page_with_two_open_changes_the_newest_continues_after_a_restart():
    window = ManualWindow()
    window.take(change(body="1", at=0))
    window.batcher.send()
    window.take(change(body="2", at=1))
    restarted = window.restarted()
    assert texts(restarted.finished()) == ["p=[2]"]
    assert restarted.tracker.open_pages == 1


def test_every_field_of_an_open_change_is_in_the_snapshot():
    window = ManualWindow()
    taken = change("é/ü 漢", "text", at=7, written=5, partition=2, op="c")
    window.take(taken)
    (row,) = window.restarted().finished()
    assert row.record == taken.record
    assert (row.page_id, row.written_us) == (taken.page_id, 5)


def test_snapshots_do_not_grow_across_restarts():
    window = ManualWindow()
    window.take(*(change(f"{n}", f"{n}", at=n) for n in range(50)))
    first = pickle.loads(window.logic.snapshot())
    for _ in range(3):
        window = window.restarted()
    assert pickle.loads(window.logic.snapshot()) == first


@pytest.mark.parametrize("layout", [(STATE_VERSION + 1, BUCKETS), (STATE_VERSION, BUCKETS + 1)])
def test_a_store_of_another_layout_ends_the_process_with_the_remedy(layout):
    with capture_logs() as lines, pytest.raises(ProcessEndedError):
        ManualWindow(snapshot=pickle.dumps((*layout, [], b"")))
    assert "let the old version finish first, or remove the store" in lines[0]["error"]
