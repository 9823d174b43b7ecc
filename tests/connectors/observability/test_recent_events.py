"""What the status page is told of warnings and dead letters."""

from __future__ import annotations

import structlog

from connectors.observability import logs
from connectors.observability.recent_events import KEPT, LONGEST_FACT, LONGEST_TEXT, RecentEvents


def test_only_warnings_and_worse_are_noted():
    recent = RecentEvents()
    for level in ("debug", "info", "warning", "error", "critical"):
        recent.note_line({"level": level, "event": level, "logger_name": "kafka", "source": 3})
    assert [(h.level, h.text) for h in recent.latest()] == [
        ("error", "critical"),
        ("error", "error"),
        ("warning", "warning"),
    ]
    assert recent.latest()[0].facts == {"source": "3"}
    assert recent.latest()[0].source == "kafka"


def test_a_dead_letter_shows_its_reason_and_origin():
    recent = RecentEvents()
    recent.note_line(
        {"level": "error", "event": "dead letter", "reason": "undecodable", "detail": "no JSON",
         "origin": "cdc.pages:0:7"}
    )  # fmt: skip
    (found,) = recent.latest()
    assert (found.level, found.source, found.text) == ("dead-letter", "undecodable", "no JSON")
    assert found.facts == {"origin": "cdc.pages:0:7"}


def test_a_stall_shows_its_service_reason_and_remedy():
    recent = RecentEvents()
    recent.note_line(
        {"level": "warning", "event": "waiting", "logger_name": "stream", "service": "embedder",
         "reason": "no model", "since_s": 60, "remedy": "pull it"}
    )  # fmt: skip
    (found,) = recent.latest()
    assert (found.source, found.text) == ("embedder", "waiting: no model")
    assert found.facts == {"remedy": "pull it"}


def test_what_happens_again_is_counted_and_does_not_push_the_rest_out():
    now = iter(range(1000))
    recent = RecentEvents(clock=lambda: float(next(now)))
    recent.add("warning", "kafka", "once")
    for n in range(KEPT * 2):
        recent.add("dead-letter", "rag-unreachable", "answered 500", origin=f"cdc.pages:0:{n}")
    again, once = recent.latest()
    assert (again.times, again.since, again.at) == (KEPT * 2, 1.0, KEPT * 2)
    assert again.facts == {"origin": f"cdc.pages:0:{KEPT * 2 - 1}"}
    assert (once.text, once.times) == ("once", 1)


def test_it_holds_the_newest_only():
    recent = RecentEvents()
    for n in range(KEPT + 5):
        recent.add("warning", "stream", f"number {n}")
    found = recent.latest()
    assert len(found) == KEPT
    assert found[0].text == f"number {KEPT + 4}"
    assert found[0].number == KEPT + 5


def test_texts_are_one_printable_line_of_bounded_length():
    recent = RecentEvents()
    recent.add("error", "rag", "a\nb\x1b[31m" + "x" * 10_000, page_id="\ud800é\0" * 1000)
    (found,) = recent.latest()
    assert found.text.startswith("a\\nb\\x1b[31mx")
    assert len(found.text) == LONGEST_TEXT
    assert len(found.facts["page_id"]) == LONGEST_FACT
    assert (found.text + found.facts["page_id"]).isprintable()
    found.facts["page_id"].encode()  # a lone surrogate could not be


def test_the_log_shows_it_every_line_without_secrets(capsys):
    recent = RecentEvents()
    try:
        logs.configure(secrets=["hunter2"], watch=recent.note_line)
        logs.get("rag").warning("refused", url="http://me:hunter2@rag")
    finally:
        structlog.reset_defaults()
    (found,) = recent.latest()
    assert (found.source, found.facts) == ("rag", {"url": "http://me:***@rag"})
    assert "hunter2" not in capsys.readouterr().err
