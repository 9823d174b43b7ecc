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
from tests.dataflow.steps.manual_window import Bench, ProcessEndedError, change, texts
from tests.eventually import eventually


def test_a_page_comes_out_with_its_vector_once_it_is_answered():
    bench = Bench()
    assert bench.take(change(body="one", at=0, written=77)) == []
    assert bench.emitted() == []
    (row,) = bench.finished()
    assert (row.page_id, row.vector, row.written_us, row.model) == ("p", b"[one]", 77, "m")
    assert bench.counts() == {"embedded": 1}


def test_the_record_of_a_vector_waits_for_both_outputs():
    bench = Bench()
    bench.take(change(at=0))
    (row,) = bench.finished()
    assert not bench.tracker.settled(row.record)
    assert bench.tracker.settled(row.record)
    assert bench.tracker.open_pages == 0


def test_pages_come_out_in_the_order_of_the_answers_and_others_are_not_held_up():
    bench = Bench()
    bench.take(change("a", "1", at=0), change("b", "2", at=1))
    first, second = bench.batcher.send(2)
    bench.batcher.answer(second)
    assert texts(bench.emitted()) == ["b=[2]"]
    bench.batcher.answer(first)
    assert texts(bench.emitted()) == ["a=[1]"]


def test_it_asks_to_be_woken_while_pages_are_open_and_until_all_is_settled():
    bench = Bench(flush_after_s=0.01)
    assert bench.window.notify_at() is None
    bench.take(change(at=0))
    assert bench.window.notify_at() is not None
    (row,) = bench.finished()
    for _ in range(2):
        eventually(lambda: datetime.now(timezone.utc) >= bench.window.notify_at())
        assert bench.emitted() == [FlushMarker(settles=False)]
        bench.tracker.settled(row.record)
    eventually(lambda: datetime.now(timezone.utc) >= bench.window.notify_at())
    assert bench.emitted() == [FlushMarker()]
    assert bench.window.notify_at() is None


def test_a_bucket_at_work_is_woken_exactly_also_where_a_peer_has_read_its_pages(monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(timer_slack, "_set_slack", told.append)
    bench = Bench(shared=True)
    monkeypatch.setattr(bench.step.slack, "_worked_at", time.monotonic() - 60)
    bench.step.slack.adjust()
    bench.take(change(at=0))
    assert [slack == timer_slack._IDLE_NS for slack in told] == [False, True, False]


def test_a_bucket_s_outputs_are_sealed_also_where_another_page_is_never_done():
    bench = Bench(flush_after_s=0.0)
    bench.take(change("a", at=0), change("b", at=1))
    bench.batcher.answer(bench.batcher.send(1)[0])
    assert len(bench.emitted()) == 1
    looks = [bench.emitted() for _ in range(192)]
    sealed = [number for number, out in enumerate(looks, 1) if out == [FlushMarker(settles=False)]]
    assert sealed == [1, 2, 4, 8, 16, 32, 64, 128, 192]


def test_a_bucket_that_resumes_seals_its_outputs_whose_snapshots_may_hold_rows():
    bench = Bench(flush_after_s=0.0)
    bench.take(change(at=0))
    bench.finished()
    assert bench.restarted().emitted() == [FlushMarker()]


# --- several changes of one page ---


def test_changes_that_wait_are_one_embedding():
    bench = Bench()
    bench.take(*(change(body=f"{n}", at=n) for n in range(5)))
    assert [job.text for job in bench.batcher.waiting] == ["4"]
    assert texts(bench.finished()) == ["p=[4]"]
    assert bench.counts() == {"coalesced": 4, "embedded": 1}
    assert bench.tracker.open_pages == 1


def test_a_change_in_a_request_is_done_and_the_next_one_after_it():
    bench = Bench()
    bench.take(change(body="1", at=0))
    bench.batcher.send()
    bench.take(change(body="2", at=1))
    assert texts(bench.finished()) == ["p=[1]", "p=[2]"]


def test_an_older_change_that_is_answered_later_is_dropped():
    bench = Bench()
    bench.take(change(body="1", at=0))
    (older,) = bench.batcher.send()
    bench.take(change(body="2", at=1))
    (newer,) = bench.batcher.send()
    bench.batcher.answer(newer)
    bench.batcher.answer(older)
    assert texts(bench.emitted()) == ["p=[2]"]
    assert bench.counts() == {"coalesced": 1, "embedded": 1}


def test_of_two_changes_at_the_same_time_the_same_one_wins_whichever_is_answered_first():
    for order in ((0, 1), (1, 0)):
        bench = Bench()
        for partition in (0, 1):
            bench.take(change(body=f"{partition}", at=5, partition=partition))
            bench.batcher.send()
        jobs = bench.batcher.in_flight
        for index in order:
            bench.batcher.answer(jobs[index])
        assert texts(bench.emitted())[-1] == "p=[1]"


def test_a_change_that_is_dropped_while_it_is_put_into_a_request_is_not_emitted():
    bench = Bench()
    bench.take(change(body="1", at=0))
    (job,) = bench.batcher.waiting
    bench.take(change(body="2", at=1))
    job.sent = True  # the event loop had looked a moment before it was dropped
    bench.batcher.answer(job)
    assert bench.emitted() == []
    assert texts(bench.finished()) == ["p=[2]"]


def test_an_older_change_is_stale_before_while_and_after_the_newer_one_is_embedded():
    for stage in range(3):
        bench = Bench()
        bench.take(change(body="new", at=1, written=20))
        if stage >= 1:
            bench.batcher.send()
        if stage == 2:
            assert texts(bench.finished()) == ["p=[new]"]
        assert bench.take(change(body="old", at=2, written=10)) == []
        assert bench.counts()["skipped_stale"] == 1
        assert [job.text for job in bench.batcher.jobs] == ["new"]


def test_the_same_version_again_is_a_repeat():
    bench = Bench()
    bench.take(change(body="1", at=0, written=10), change(body="1", at=1, written=10))
    assert texts(bench.finished()) == ["p=[1]"]
    bench.take(change(body="1", at=2, written=10))
    assert bench.finished() == []
    assert bench.counts() == {"embedded": 1, "skipped_stale": 2}


def test_a_text_outlives_a_delete_of_the_same_time_in_any_order_and_over_repeats():
    """Debezium tells a batch that deletes a row and writes it anew as both, at one time."""
    text: dict[str, Any] = {"body": "anew", "written": 10}
    delete: dict[str, Any] = {"body": None, "written": 10}
    for events in ((delete, text), (text, delete), (delete, text, delete, text)):
        bench = Bench(delete_rows=True)
        came = []
        for at, event in enumerate(events):
            came += bench.take(change(at=at, **event)) + bench.finished()
        assert texts(came)[-1] == "p=[anew]"
        assert bench.counts()["embedded"] == 1


def test_a_newer_change_that_overtook_an_open_one_is_not_forgotten():
    """A late delete must not undo it, although the oldest open change is older than both."""
    bench = Bench(delete_rows=True)
    bench.take(change(body="1", at=0, written=10))
    bench.batcher.send()
    bench.take(change(body="3", at=1, written=30))
    bench.batcher.send()
    bench.batcher.answer(bench.batcher.in_flight[1])
    assert texts(bench.emitted()) == ["p=[3]"]
    assert bench.take(change(body=None, at=2, written=20)) == []
    assert bench.counts()["skipped_stale"] == 1


def test_a_late_change_does_not_win_over_a_delete_that_overtook_an_open_one():
    bench = Bench(delete_rows=True)
    bench.take(change(body="1", at=0, written=10))
    bench.batcher.send()
    assert texts(bench.take(change(body=None, at=1, written=40))) == ["p=gone"]
    assert bench.take(change(body=None, at=2, written=20)) == []
    bench.take(change(body="3", at=3, written=30))
    assert bench.finished() == []
    assert bench.counts() == {"deleted": 1, "skipped_stale": 2, "coalesced": 1}


# --- unchanged texts ---


def test_an_update_to_the_same_text_is_unchanged_and_its_version_counts():
    bench = Bench()
    bench.take(change(body="1", at=0, written=10))
    bench.finished()
    bench.take(change(body="1", at=1, written=30))
    bench.take(change(body="2", at=2, written=20))
    assert bench.batcher.waiting == []
    assert bench.counts() == {"embedded": 1, "skipped_unchanged": 1, "skipped_stale": 1}


def test_the_text_that_was_applied_is_no_repeat_while_another_one_is_in_a_request():
    bench = Bench()
    bench.take(change(body="1", at=0))
    bench.finished()
    bench.take(change(body="2", at=1))
    bench.batcher.send()
    bench.take(change(body="1", at=2))
    assert texts(bench.finished())[-1] == "p=[1]"


def test_a_create_is_always_done():
    bench = Bench()
    bench.take(change(body="1", at=0))
    bench.finished()
    bench.take(change(body="1", at=1, op="c"))
    assert texts(bench.finished()) == ["p=[1]"]


def test_the_same_text_under_other_rules_is_a_change():
    bench = Bench()
    bench.take(change(body="1", at=0))
    bench.finished()
    for rules in (
        TextRules("other"),
        TextRules("m", prefix="p"),
        TextRules("m", lowercase=True),
        TextRules("m", long_pages="truncate"),
    ):
        restarted = Bench(snapshot=bench.window.snapshot(), rules=rules)
        restarted.take(change(body="1", at=1))
        assert len(restarted.batcher.waiting) == 1


def test_nothing_is_called_unchanged_before_the_rules_are_known():
    bench = Bench()
    bench.take(change(body="1", at=0))
    bench.finished()
    restarted = bench.restarted()
    restarted.batcher.rules = None
    restarted.take(change(body="1", at=1))
    assert len(restarted.batcher.waiting) == 1


# --- refused pages and replays ---


def test_a_refused_page_is_a_dead_letter_and_counts_as_applied():
    bench = Bench()
    bench.take(change(body="bad", at=3))
    (letter,) = bench.finished()
    assert (letter.reason, letter.detail) == ("refused-by-embedder", "it is bad")
    assert letter.record.offset == 3
    bench.take(change(body="bad", at=3))
    assert bench.counts() == {"refused": 1, "skipped_stale": 1}


def test_a_refused_text_that_is_written_again_is_unchanged_until_its_letter_is_replayed():
    bench = Bench()
    bench.take(change(body="bad", at=3))
    bench.finished()
    restarted = bench.restarted()
    restarted.take(change(body="bad", at=4))
    assert restarted.counts()["skipped_unchanged"] == 1
    restarted.take(change(body="bad", at=3, replay=True))
    restarted.batcher.send()
    restarted.batcher.answer(restarted.batcher.in_flight[-1], mended=True)
    assert texts(restarted.emitted()) == ["p=[bad]"]


def test_a_replay_is_done_although_its_version_and_text_are_known():
    bench = Bench()
    bench.take(change(body="bad", at=3))
    bench.finished()
    bench.batcher.jobs.clear()
    bench.take(change(body="bad", at=3, replay=True))
    assert texts(bench.finished()) == ["1003 refused-by-embedder"]


def test_a_replay_never_wins_over_a_newer_change():
    bench = Bench()
    bench.take(change(body="bad", at=3))
    bench.finished()
    bench.take(change(body="good", at=4))
    bench.finished()
    bench.take(change(body="bad", at=3, replay=True))
    assert bench.finished() == []
    assert bench.counts()["skipped_stale"] == 1


def test_a_replay_is_done_although_its_text_was_written_again_since():
    """What an output missed, the newer change did not bring: it was skipped as unchanged."""
    bench = Bench()
    bench.take(change(body="1", at=3, written=10))
    bench.finished()
    bench.take(change(body="1", at=4, written=30))
    bench.take(change(body="1", at=3, written=10, replay=True))
    assert texts(bench.finished()) == ["p=[1]"]
    bench.take(change(body="late", at=5, written=20))
    assert bench.finished() == [], "the newer version was forgotten"


def test_a_replay_is_done_under_other_rules_too():
    bench = Bench()
    bench.take(change(body="1", at=3))
    bench.finished()
    restarted = Bench(snapshot=bench.window.snapshot(), rules=TextRules("other"))
    restarted.take(change(body="1", at=3, replay=True))
    assert texts(restarted.finished()) == ["p=[1]"]


def test_a_replay_of_an_older_text_is_stale_although_the_page_had_it_once():
    bench = Bench(delete_rows=True)
    for body, written in (("1", 10), ("2", 20), (None, 30)):
        bench.take(change(body=body, at=written, written=written))
        bench.finished()
        bench.take(change(body="1", at=10, written=10, replay=True))
        bench.finished()
    assert bench.counts() == {"embedded": 3, "deleted": 1, "skipped_stale": 2}


def test_a_replay_that_comes_before_the_rules_are_known_is_judged_when_they_are():
    bench = Bench()
    bench.take(change(body="1", at=3))
    bench.finished()
    bench.take(change(body="1", at=4))
    rules, bench.batcher.rules = bench.batcher.rules, None
    bench.take(change(body="1", at=3, replay=True), change("q", "other", at=6))
    bench.batcher.rules = rules
    assert texts(bench.finished()) == ["p=[1]", "q=[other]"]


# --- vectors of the fallback ---


def _with_fallback(bench: Bench, *changes) -> list:
    bench.batcher.other_space = True
    bench.take(*changes)
    out = bench.finished()
    bench.batcher.other_space = False
    bench.batcher.jobs.clear()
    return out


def _other_space_pages(bench: Bench) -> float:
    return bench.metrics.other_space_pages._value.get()


def test_a_vector_of_the_fallback_says_so():
    bench = Bench()
    (row,) = _with_fallback(bench, change(body="1", at=0))
    assert (row.other_space, row.model) == (True, "f")
    assert _other_space_pages(bench) == 1


def test_a_text_that_the_fallback_embedded_never_counts_as_unchanged():
    bench = Bench()
    _with_fallback(bench, change(body="1", at=0))
    for started in (bench, bench.restarted()):
        started.take(change(body="1", at=1))
        (row,) = started.finished()
        assert not row.other_space
        assert _other_space_pages(started) == 0


def test_a_replay_embeds_again_what_the_fallback_did_also_after_a_restart():
    bench = Bench()
    _with_fallback(bench, change(body="1", at=3, written=10))
    restarted = bench.restarted()
    assert _other_space_pages(restarted) == 1
    restarted.take(change(body="1", at=3, written=10, replay=True))
    assert texts(restarted.finished()) == ["p=[1]"]
    assert _other_space_pages(restarted) == 0


def test_a_replay_of_what_the_fallback_did_gives_way_to_a_newer_change():
    bench = Bench()
    _with_fallback(bench, change(body="1", at=3))
    bench.take(change(body="2", at=4))
    bench.finished()
    bench.take(change(body="1", at=3, replay=True))
    assert bench.finished() == []
    assert bench.counts()["skipped_stale"] == 1


def test_a_page_that_is_then_refused_keeps_the_vector_of_the_fallback_and_is_counted():
    bench = Bench()
    _with_fallback(bench, change(body="1", at=3))
    bench.take(change(body="bad", at=4))
    assert texts(bench.finished()) == ["4 refused-by-embedder"]
    assert _other_space_pages(bench) == 1


def test_a_text_outlives_a_delete_of_its_own_time_with_the_fallback_too():
    bench = Bench(delete_rows=True)
    _with_fallback(bench, change(body="1", at=3, written=10))
    assert bench.take(change(body=None, at=4, written=10)) == []
    assert _other_space_pages(bench) == 1
    assert texts(bench.take(change(body=None, at=5, written=11))) == ["p=gone"]
    assert _other_space_pages(bench) == 0


# --- deletes and blank pages ---


def test_deletes_and_blank_pages_are_skipped_where_rows_stay():
    bench = Bench()
    bench.take(change(body=None, at=0), change(body=" \n", at=1), change("q", "", at=2, op="c"))
    assert bench.finished() == []
    assert bench.counts() == {"skipped_op": 1, "skipped_blank": 2}
    assert bench.tracker.open_pages == 0


def test_where_rows_stay_a_delete_changes_nothing_however_fast_the_embedder_is():
    for stage in range(3):
        bench = Bench()
        out = bench.take(change(body="1", at=0, written=10))
        if stage >= 1:
            bench.batcher.send()
        if stage == 2:
            out += bench.finished()
        out += bench.take(change(body=None, at=1, written=20), change(body="", at=2, written=21))
        out += bench.finished()
        assert texts(out) == ["p=[1]"]


def test_deletes_and_blank_pages_remove_the_row_where_rows_go():
    bench = Bench(delete_rows=True)
    out = bench.take(change("a", None, at=0), change("b", " ", at=1), change("c", "", at=2, op="c"))
    assert texts(out) == ["a=gone", "b=gone", "c=gone"]
    assert bench.counts() == {"deleted": 1, "skipped_blank": 2}
    assert [bench.tracker.settled(row.record) for row in out] == [True] * 3


def test_a_delete_drops_what_waits_and_outlives_what_is_in_a_request():
    bench = Bench(delete_rows=True)
    bench.take(change(body="1", at=0))
    bench.batcher.send()
    bench.take(change(body="2", at=1))
    assert texts(bench.take(change(body=None, at=2))) == ["p=gone"]
    assert bench.batcher.waiting == []
    assert bench.finished() == []
    assert bench.counts() == {"deleted": 1, "coalesced": 2}


def test_an_insert_that_was_answered_just_before_its_delete_does_not_come_out_after_it():
    bench = Bench(delete_rows=True)
    bench.take(change(body="1", at=0))
    bench.batcher.answer_all()
    assert texts(bench.take(change(body=None, at=1))) == ["p=gone"]
    assert bench.emitted() == []


@pytest.mark.parametrize("delete_rows", [True, False])
@pytest.mark.parametrize("answered_between", [True, False])
@pytest.mark.parametrize("insert_first", [True, False])
def test_a_newer_insert_survives_an_older_delete_in_any_order(
    delete_rows, answered_between, insert_first
):
    bench = Bench(delete_rows=delete_rows)
    insert = change(body="new", at=0 if insert_first else 1, op="c", written=20)
    delete = change(body=None, at=1 if insert_first else 0, written=10)
    first, second = (insert, delete) if insert_first else (delete, insert)
    out = bench.take(first)
    if answered_between:
        out += bench.finished()
    out += bench.take(second)
    out += bench.finished()
    assert texts(out)[-1] == "p=[new]"


def test_a_text_that_comes_back_after_a_delete_is_embedded_again():
    bench = Bench(delete_rows=True)
    bench.take(change(body="1", at=0))
    bench.finished()
    bench.take(change(body=None, at=1))
    bench.take(change(body="1", at=2))
    assert texts(bench.finished()) == ["p=[1]"]


# --- snapshots ---


def test_what_was_not_emitted_goes_on_after_a_restart():
    bench = Bench()
    bench.take(*(change(page, page, at=n) for n, page in enumerate("abcd")))
    waiting, in_flight, answered, emitted = bench.batcher.jobs[:4]
    for job in (in_flight, answered, emitted):
        job.sent = True
    bench.batcher.answer(emitted)
    assert texts(bench.emitted()) == ["d=[d]"]
    bench.batcher.answer(answered)
    restarted = bench.restarted()
    assert [job.text for job in restarted.batcher.waiting] == ["a", "b", "c"]
    assert restarted.tracker.open_pages == 3
    assert restarted.window.notify_at() is not None
    assert texts(restarted.finished()) == ["a=[a]", "b=[b]", "c=[c]"]
    assert waiting.vector is None


def test_versions_texts_and_deletes_are_remembered_over_a_restart():
    bench = Bench(delete_rows=True)
    bench.take(change("a", "1", at=0, written=10), change("b", None, at=1, written=10))
    bench.finished()
    restarted = bench.restarted()
    restarted.take(
        change("a", "0", at=2, written=9),
        change("a", "1", at=3, written=11),
        change("b", "0", at=4, written=9),
    )
    assert restarted.batcher.jobs == []
    assert restarted.counts() == {"skipped_stale": 2, "skipped_unchanged": 1}


def test_of_a_page_that_was_open_twice_the_newest_change_goes_on():
    bench = Bench()
    bench.take(change(body="1", at=0))
    bench.batcher.send()
    bench.take(change(body="2", at=1))
    restarted = bench.restarted()
    assert texts(restarted.finished()) == ["p=[2]"]
    assert restarted.tracker.open_pages == 1


def test_every_field_of_an_open_change_is_in_the_snapshot():
    bench = Bench()
    taken = change("é/ü 漢", "text", at=7, written=5, partition=2, op="c")
    bench.take(taken)
    (row,) = bench.restarted().finished()
    assert row.record == taken.record
    assert (row.page_id, row.written_us) == (taken.page_id, 5)


def test_a_snapshot_of_snapshots_does_not_grow():
    bench = Bench()
    bench.take(*(change(f"{n}", f"{n}", at=n) for n in range(50)))
    first = pickle.loads(bench.window.snapshot())
    for _ in range(3):
        bench = bench.restarted()
    assert pickle.loads(bench.window.snapshot()) == first


@pytest.mark.parametrize("layout", [(STATE_VERSION + 1, BUCKETS), (STATE_VERSION, BUCKETS + 1)])
def test_a_store_of_another_layout_ends_the_process_with_the_remedy(layout):
    with capture_logs() as lines, pytest.raises(ProcessEndedError):
        Bench(snapshot=pickle.dumps((*layout, [], b"")))
    assert "finish with the old version, or remove the store" in lines[0]["error"]


# --- stopping ---


def test_a_stop_awaits_what_is_in_a_request_and_keeps_the_rest():
    bench = Bench()
    bench.take(change("a", "1", at=0), change("b", "2", at=1))
    (sent,) = bench.batcher.send()
    ended: list[list[str]] = []
    worker = threading.Thread(target=lambda: ended.append(texts(bench.window.on_eof()[0][0])))
    worker.start()
    eventually(lambda: bench.batcher.halts)
    assert ended == []
    bench.batcher.answer(sent)
    bench.batcher.halts[0].set_result(None)
    worker.join(10)
    assert ended == [["a=[1]"]]
    assert texts(bench.restarted().finished()) == ["b=[2]"]


def test_a_stop_that_waits_in_vain_keeps_everything():
    bench = Bench(halt_timeout_s=0.01)
    bench.take(change(at=0))
    bench.batcher.send()
    assert bench.window.on_eof()[0] == [[FlushMarker()]]
    assert len(bench.restarted().finished()) == 1


def test_an_error_in_the_step_ends_the_process_at_once(monkeypatch):
    bench = Bench()
    monkeypatch.setattr(bench.batcher, "submit", lambda jobs: 1 / 0)
    with pytest.raises(ProcessEndedError):
        bench.take(change(at=0))


# --- in a cluster ---


def test_in_a_cluster_a_record_is_open_here_only_while_it_is_here():
    bench = Bench(shared=True, delete_rows=True)
    bench.take(change("a", "1", at=0), change("b", "bad", at=1), change("c", None, at=2))
    assert bench.tracker.open_pages == 2
    assert len(bench.finished()) == 2
    assert bench.tracker.open_pages == 0
