"""What the step does with deletes and blank pages."""

from __future__ import annotations

import pytest

from tests.dataflow.steps.manual_window import ManualWindow, change, texts


def test_deletes_and_blank_pages_are_skipped_if_rows_are_kept():
    window = ManualWindow()
    window.take(change(body=None, at=0), change(body=" \n", at=1), change("q", "", at=2, op="c"))
    assert window.finished() == []
    assert window.counts() == {"skipped_op": 1, "skipped_blank": 2}
    assert window.tracker.open_pages == 0


def test_if_rows_are_kept_a_delete_changes_nothing_however_fast_the_embedder_is():
    for stage in range(3):
        window = ManualWindow()
        out = window.take(change(body="1", at=0, written=10))
        if stage >= 1:
            window.batcher.send()
        if stage == 2:
            out += window.finished()
        out += window.take(change(body=None, at=1, written=20), change(body="", at=2, written=21))
        out += window.finished()
        assert texts(out) == ["p=[1]"]


def test_deletes_and_blank_pages_remove_the_row_if_rows_are_deleted():
    window = ManualWindow(delete_rows=True)
    out = window.take(
        change("a", None, at=0), change("b", " ", at=1), change("c", "", at=2, op="c")
    )
    assert texts(out) == ["a=gone", "b=gone", "c=gone"]
    assert window.counts() == {"deleted": 1, "skipped_blank": 2}
    assert [window.tracker.settle(row.record) for row in out] == [True] * 3


def test_a_delete_drops_waiting_changes_and_wins_over_changes_in_flight():
    window = ManualWindow(delete_rows=True)
    window.take(change(body="1", at=0))
    window.batcher.send()
    window.take(change(body="2", at=1))
    assert texts(window.take(change(body=None, at=2))) == ["p=gone"]
    assert window.batcher.waiting == []
    assert window.finished() == []
    assert window.counts() == {"deleted": 1, "coalesced": 2}


def test_an_insert_that_was_embedded_just_before_its_delete_is_not_emitted_after_it():
    window = ManualWindow(delete_rows=True)
    window.take(change(body="1", at=0))
    window.batcher.embed_all()
    assert texts(window.take(change(body=None, at=1))) == ["p=gone"]
    assert window.emitted() == []


@pytest.mark.parametrize("delete_rows", [True, False])
@pytest.mark.parametrize("answered_between", [True, False])
@pytest.mark.parametrize("insert_first", [True, False])
def test_a_newer_insert_survives_an_older_delete_in_any_order(
    delete_rows, answered_between, insert_first
):
    window = ManualWindow(delete_rows=delete_rows)
    insert = change(body="new", at=0 if insert_first else 1, op="c", written=20)
    delete = change(body=None, at=1 if insert_first else 0, written=10)
    first, second = (insert, delete) if insert_first else (delete, insert)
    out = window.take(first)
    if answered_between:
        out += window.finished()
    out += window.take(second)
    out += window.finished()
    assert texts(out)[-1] == "p=[new]"


def test_a_text_that_is_inserted_again_after_a_delete_is_embedded_again():
    window = ManualWindow(delete_rows=True)
    window.take(change(body="1", at=0))
    window.finished()
    window.take(change(body=None, at=1))
    window.take(change(body="1", at=2))
    assert texts(window.finished()) == ["p=[1]"]
