"""What the step does with refused pages, replays and pages of the fallback."""

from __future__ import annotations

from connectors.embedders.text_rules import TextRules
from tests.dataflow.steps.manual_window import ManualWindow, change, texts

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
