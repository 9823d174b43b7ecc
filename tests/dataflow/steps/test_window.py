from __future__ import annotations

import pickle
import threading
import time
from datetime import datetime, timezone
from typing import Any

import pytest
from structlog.testing import capture_logs

from connectors.core.buckets import BUCKETS
from connectors.core.records import FlushMarker
from connectors.embedders.text_rules import TextRules
from connectors.runtime.tuning import timer_slack
from dataflow.steps.window import STATE_VERSION
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
    assert not window.tracker.settled(row.record)
    assert window.tracker.settled(row.record)
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
        window.tracker.settled(row.record)
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


# --- refused pages and replays ---


def test_a_refused_page_is_a_dead_letter_and_its_version_is_recorded():
    window = ManualWindow()
    window.take(change(body="bad", at=3))
    (dead_letter,) = window.finished()
    assert (dead_letter.reason, dead_letter.detail) == ("refused-by-embedder", "it is bad")
    assert dead_letter.record.offset == 3
    window.take(change(body="bad", at=3))
    assert window.counts() == {"refused": 1, "skipped_stale": 1}


def test_a_refused_text_that_is_written_again_is_unchanged_until_it_is_replayed():
    window = ManualWindow()
    window.take(change(body="bad", at=3))
    window.finished()
    restarted = window.restarted()
    restarted.take(change(body="bad", at=4))
    assert restarted.counts()["skipped_unchanged"] == 1
    restarted.take(change(body="bad", at=3, replay=True))
    restarted.batcher.send()
    restarted.batcher.embed(restarted.batcher.in_flight[-1], is_repaired=True)
    assert texts(restarted.emitted()) == ["p=[bad]"]


def test_a_replay_is_embedded_although_its_version_and_text_are_known():
    window = ManualWindow()
    window.take(change(body="bad", at=3))
    window.finished()
    window.batcher.jobs.clear()
    window.take(change(body="bad", at=3, replay=True))
    assert texts(window.finished()) == ["1003 refused-by-embedder"]


def test_a_replay_never_wins_over_a_newer_change():
    window = ManualWindow()
    window.take(change(body="bad", at=3))
    window.finished()
    window.take(change(body="good", at=4))
    window.finished()
    window.take(change(body="bad", at=3, replay=True))
    assert window.finished() == []
    assert window.counts()["skipped_stale"] == 1


def test_a_replay_is_embedded_although_its_text_was_written_again_since():
    """The newer change was skipped as unchanged, so the outputs still miss the text."""
    window = ManualWindow()
    window.take(change(body="1", at=3, written=10))
    window.finished()
    window.take(change(body="1", at=4, written=30))
    window.take(change(body="1", at=3, written=10, replay=True))
    assert texts(window.finished()) == ["p=[1]"]
    window.take(change(body="late", at=5, written=20))
    assert window.finished() == [], "the newer version was forgotten"


def test_a_replay_is_embedded_under_other_rules_too():
    window = ManualWindow()
    window.take(change(body="1", at=3))
    window.finished()
    restarted = ManualWindow(snapshot=window.logic.snapshot(), rules=TextRules("other"))
    restarted.take(change(body="1", at=3, replay=True))
    assert texts(restarted.finished()) == ["p=[1]"]


def test_a_replay_of_an_older_text_is_stale_although_the_page_had_it_once():
    window = ManualWindow(delete_rows=True)
    for body, written in (("1", 10), ("2", 20), (None, 30)):
        window.take(change(body=body, at=written, written=written))
        window.finished()
        window.take(change(body="1", at=10, written=10, replay=True))
        window.finished()
    assert window.counts() == {"embedded": 3, "deleted": 1, "skipped_stale": 2}


def test_a_replay_before_the_rules_are_known_is_compared_once_they_are():
    window = ManualWindow()
    window.take(change(body="1", at=3))
    window.finished()
    window.take(change(body="1", at=4))
    rules, window.batcher.rules = window.batcher.rules, None
    window.take(change(body="1", at=3, replay=True), change("q", "other", at=6))
    window.batcher.rules = rules
    assert texts(window.finished()) == ["p=[1]", "q=[other]"]


# --- vectors of the fallback ---


def _with_fallback(window: ManualWindow, *changes) -> list:
    window.batcher.other_space = True
    window.take(*changes)
    out = window.finished()
    window.batcher.other_space = False
    window.batcher.jobs.clear()
    return out


def _other_space_pages(window: ManualWindow) -> float:
    return window.metrics.other_space_pages._value.get()


def test_a_vector_of_the_fallback_is_marked():
    window = ManualWindow()
    (row,) = _with_fallback(window, change(body="1", at=0))
    assert (row.other_space, row.model) == (True, "f")
    assert _other_space_pages(window) == 1


def test_a_text_that_the_fallback_embedded_is_never_unchanged():
    window = ManualWindow()
    _with_fallback(window, change(body="1", at=0))
    for started in (window, window.restarted()):
        started.take(change(body="1", at=1))
        (row,) = started.finished()
        assert not row.other_space
        assert _other_space_pages(started) == 0


def test_a_replay_embeds_a_page_of_the_fallback_again_even_after_a_restart():
    window = ManualWindow()
    _with_fallback(window, change(body="1", at=3, written=10))
    restarted = window.restarted()
    assert _other_space_pages(restarted) == 1
    restarted.take(change(body="1", at=3, written=10, replay=True))
    assert texts(restarted.finished()) == ["p=[1]"]
    assert _other_space_pages(restarted) == 0


def test_a_replay_of_a_page_of_the_fallback_is_stale_after_a_newer_change():
    window = ManualWindow()
    _with_fallback(window, change(body="1", at=3))
    window.take(change(body="2", at=4))
    window.finished()
    window.take(change(body="1", at=3, replay=True))
    assert window.finished() == []
    assert window.counts()["skipped_stale"] == 1


def test_a_refused_page_keeps_the_vector_of_the_fallback_and_is_counted():
    window = ManualWindow()
    _with_fallback(window, change(body="1", at=3))
    window.take(change(body="bad", at=4))
    assert texts(window.finished()) == ["4 refused-by-embedder"]
    assert _other_space_pages(window) == 1


def test_a_text_of_the_fallback_wins_over_a_delete_of_the_same_time_too():
    window = ManualWindow(delete_rows=True)
    _with_fallback(window, change(body="1", at=3, written=10))
    assert window.take(change(body=None, at=4, written=10)) == []
    assert _other_space_pages(window) == 1
    assert texts(window.take(change(body=None, at=5, written=11))) == ["p=gone"]
    assert _other_space_pages(window) == 0


# --- deletes and blank pages ---


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
    assert [window.tracker.settled(row.record) for row in out] == [True] * 3


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


# --- snapshots ---


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
    assert "finish with the old version, or remove the store" in lines[0]["error"]


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
