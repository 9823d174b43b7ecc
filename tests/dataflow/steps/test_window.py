from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Any

import pytest

from connectors.core.records import FlushMarker
from connectors.embedders.text_rules import TextRules
from connectors.runtime.tuning import timer_slack
from tests.dataflow.steps.manual_window import ManualWindow, ProcessEndedError, change, texts
from tests.eventually import eventually


def test_a_page_is_emitted_with_its_vector_once_it_is_embedded():
    window = ManualWindow()
    assert window.take(change(body="one", at=0, written=77)) == []
    assert window.emitted() == []
    (row,) = window.finished()
    assert (row.page_id, row.vector, row.written_us, row.model) == ("p", b"[one]", 77, "m")
    assert window.counts() == {"embedded": 1}


def test_a_record_is_settled_once_both_outputs_have_acknowledged_it():
    window = ManualWindow()
    window.take(change(at=0))
    (row,) = window.finished()
    assert not window.tracker.settle(row.record)
    assert window.tracker.settle(row.record)
    assert window.tracker.open_pages == 0


def test_pages_are_emitted_in_the_order_of_the_responses():
    window = ManualWindow()
    window.take(change("a", "1", at=0), change("b", "2", at=1))
    first, second = window.batcher.send(2)
    window.batcher.embed(second)
    assert texts(window.emitted()) == ["b=[2]"]
    window.batcher.embed(first)
    assert texts(window.emitted()) == ["a=[1]"]


def test_a_bucket_is_notified_while_pages_are_open_and_until_all_are_settled():
    window = ManualWindow(flush_after_s=0.01)
    assert window.logic.notify_at() is None
    window.take(change(at=0))
    assert window.logic.notify_at() is not None
    (row,) = window.finished()
    for _ in range(2):
        eventually(lambda: datetime.now(timezone.utc) >= window.logic.notify_at())
        assert window.emitted() == [FlushMarker(settles=False)]
        window.tracker.settle(row.record)
    eventually(lambda: datetime.now(timezone.utc) >= window.logic.notify_at())
    assert window.emitted() == [FlushMarker()]
    assert window.logic.notify_at() is None


def test_a_bucket_with_work_has_no_timer_slack_even_if_a_peer_has_read_its_pages(monkeypatch):
    slacks: list[int] = []
    monkeypatch.setattr(timer_slack, "_set_slack", slacks.append)
    window = ManualWindow(shared=True)
    monkeypatch.setattr(window.step.slack, "_worked_at", time.monotonic() - 60)
    window.step.slack.adjust()
    window.take(change(at=0))
    assert [slack == timer_slack._IDLE_NS for slack in slacks] == [False, True, False]


def test_flush_markers_are_sent_even_if_a_page_is_never_finished():
    window = ManualWindow(flush_after_s=0.0)
    window.take(change("a", at=0), change("b", at=1))
    window.batcher.embed(window.batcher.send(1)[0])
    assert len(window.emitted()) == 1
    checks = [window.emitted() for _ in range(192)]
    sent_at = [n for n, out in enumerate(checks, 1) if out == [FlushMarker(settles=False)]]
    assert sent_at == [1, 2, 4, 8, 16, 32, 64, 128, 192]


def test_a_bucket_that_resumes_sends_a_flush_marker():
    window = ManualWindow(flush_after_s=0.0)
    window.take(change(at=0))
    window.finished()
    assert window.restarted().emitted() == [FlushMarker()]


# --- several changes of one page ---


def test_only_the_newest_waiting_change_of_a_page_is_embedded():
    window = ManualWindow()
    window.take(*(change(body=f"{n}", at=n) for n in range(5)))
    assert [job.text for job in window.batcher.waiting] == ["4"]
    assert texts(window.finished()) == ["p=[4]"]
    assert window.counts() == {"coalesced": 4, "embedded": 1}
    assert window.tracker.open_pages == 1


def test_a_change_in_flight_is_finished_before_the_next_one():
    window = ManualWindow()
    window.take(change(body="1", at=0))
    window.batcher.send()
    window.take(change(body="2", at=1))
    assert texts(window.finished()) == ["p=[1]", "p=[2]"]


def test_an_older_change_that_is_embedded_later_is_dropped():
    window = ManualWindow()
    window.take(change(body="1", at=0))
    (older,) = window.batcher.send()
    window.take(change(body="2", at=1))
    (newer,) = window.batcher.send()
    window.batcher.embed(newer)
    window.batcher.embed(older)
    assert texts(window.emitted()) == ["p=[2]"]
    assert window.counts() == {"coalesced": 1, "embedded": 1}


def test_of_two_changes_with_the_same_time_the_same_one_always_wins():
    for order in ((0, 1), (1, 0)):
        window = ManualWindow()
        for partition in (0, 1):
            window.take(change(body=f"{partition}", at=5, partition=partition))
            window.batcher.send()
        jobs = window.batcher.in_flight
        for index in order:
            window.batcher.embed(jobs[index])
        assert texts(window.emitted())[-1] == "p=[1]"


def test_a_change_that_is_dropped_while_it_is_sent_is_not_emitted():
    window = ManualWindow()
    window.take(change(body="1", at=0))
    (job,) = window.batcher.waiting
    window.take(change(body="2", at=1))
    job.sent = True  # the event loop read `dropped` just before it was set
    window.batcher.embed(job)
    assert window.emitted() == []
    assert texts(window.finished()) == ["p=[2]"]


def test_an_older_change_is_stale_before_during_and_after_the_embedding_of_a_newer_one():
    for stage in range(3):
        window = ManualWindow()
        window.take(change(body="new", at=1, written=20))
        if stage >= 1:
            window.batcher.send()
        if stage == 2:
            assert texts(window.finished()) == ["p=[new]"]
        assert window.take(change(body="old", at=2, written=10)) == []
        assert window.counts()["skipped_stale"] == 1
        assert [job.text for job in window.batcher.jobs] == ["new"]


def test_the_same_version_again_is_stale():
    window = ManualWindow()
    window.take(change(body="1", at=0, written=10), change(body="1", at=1, written=10))
    assert texts(window.finished()) == ["p=[1]"]
    window.take(change(body="1", at=2, written=10))
    assert window.finished() == []
    assert window.counts() == {"embedded": 1, "skipped_stale": 2}


def test_a_text_wins_over_a_delete_of_the_same_time_in_any_order():
    """Debezium reports a batch that deletes and writes a row as two events of one time."""
    text: dict[str, Any] = {"body": "new", "written": 10}
    delete: dict[str, Any] = {"body": None, "written": 10}
    for events in ((delete, text), (text, delete), (delete, text, delete, text)):
        window = ManualWindow(delete_rows=True)
        out = []
        for at, event in enumerate(events):
            out += window.take(change(at=at, **event)) + window.finished()
        assert texts(out)[-1] == "p=[new]"
        assert window.counts()["embedded"] == 1


def test_a_newer_change_that_overtook_an_open_one_is_remembered():
    """A late delete must not undo it, although the oldest open change is older than both."""
    window = ManualWindow(delete_rows=True)
    window.take(change(body="1", at=0, written=10))
    window.batcher.send()
    window.take(change(body="3", at=1, written=30))
    window.batcher.send()
    window.batcher.embed(window.batcher.in_flight[1])
    assert texts(window.emitted()) == ["p=[3]"]
    assert window.take(change(body=None, at=2, written=20)) == []
    assert window.counts()["skipped_stale"] == 1


def test_a_late_change_does_not_win_over_a_delete_that_overtook_an_open_one():
    window = ManualWindow(delete_rows=True)
    window.take(change(body="1", at=0, written=10))
    window.batcher.send()
    assert texts(window.take(change(body=None, at=1, written=40))) == ["p=gone"]
    assert window.take(change(body=None, at=2, written=20)) == []
    window.take(change(body="3", at=3, written=30))
    assert window.finished() == []
    assert window.counts() == {"deleted": 1, "skipped_stale": 2, "coalesced": 1}


# --- unchanged texts ---


def test_an_update_to_the_same_text_is_unchanged_and_its_version_counts():
    window = ManualWindow()
    window.take(change(body="1", at=0, written=10))
    window.finished()
    window.take(change(body="1", at=1, written=30))
    window.take(change(body="2", at=2, written=20))
    assert window.batcher.waiting == []
    assert window.counts() == {"embedded": 1, "skipped_unchanged": 1, "skipped_stale": 1}


def test_the_stored_text_is_not_unchanged_while_another_text_is_in_flight():
    window = ManualWindow()
    window.take(change(body="1", at=0))
    window.finished()
    window.take(change(body="2", at=1))
    window.batcher.send()
    window.take(change(body="1", at=2))
    assert texts(window.finished())[-1] == "p=[1]"


def test_a_create_is_always_embedded():
    window = ManualWindow()
    window.take(change(body="1", at=0))
    window.finished()
    window.take(change(body="1", at=1, op="c"))
    assert texts(window.finished()) == ["p=[1]"]


def test_the_same_text_under_other_rules_is_a_change():
    window = ManualWindow()
    window.take(change(body="1", at=0))
    window.finished()
    for rules in (
        TextRules("other"),
        TextRules("m", prefix="p"),
        TextRules("m", lowercase=True),
        TextRules("m", long_pages="truncate"),
    ):
        restarted = ManualWindow(snapshot=window.logic.snapshot(), rules=rules)
        restarted.take(change(body="1", at=1))
        assert len(restarted.batcher.waiting) == 1


def test_no_text_is_unchanged_before_the_rules_are_known():
    window = ManualWindow()
    window.take(change(body="1", at=0))
    window.finished()
    restarted = window.restarted()
    restarted.batcher.rules = None
    restarted.take(change(body="1", at=1))
    assert len(restarted.batcher.waiting) == 1


# --- stopping ---


def test_a_stop_waits_for_changes_in_flight_and_keeps_the_rest():
    window = ManualWindow()
    window.take(change("a", "1", at=0), change("b", "2", at=1))
    (sent,) = window.batcher.send()
    ended: list[list[str]] = []
    worker = threading.Thread(target=lambda: ended.append(texts(window.logic.on_eof()[0][0])))
    worker.start()
    eventually(lambda: window.batcher.halts)
    assert ended == []
    window.batcher.embed(sent)
    window.batcher.halts[0].set_result(None)
    worker.join(10)
    assert ended == [["a=[1]"]]
    assert texts(window.restarted().finished()) == ["b=[2]"]


def test_a_stop_that_times_out_keeps_everything():
    window = ManualWindow(halt_timeout_s=0.01)
    window.take(change(at=0))
    window.batcher.send()
    assert window.logic.on_eof()[0] == [[FlushMarker()]]
    assert len(window.restarted().finished()) == 1


def test_an_error_in_the_step_ends_the_process_at_once(monkeypatch):
    window = ManualWindow()
    monkeypatch.setattr(window.batcher, "submit", lambda jobs: 1 / 0)
    with pytest.raises(ProcessEndedError):
        window.take(change(at=0))


# --- in a cluster ---


def test_in_a_cluster_a_record_is_open_here_only_while_it_is_here():
    window = ManualWindow(shared=True, delete_rows=True)
    window.take(change("a", "1", at=0), change("b", "bad", at=1), change("c", None, at=2))
    assert window.tracker.open_pages == 2
    assert len(window.finished()) == 2
    assert window.tracker.open_pages == 0
