"""The warnings, errors and dead letters that the status page shows."""

from __future__ import annotations

import structlog

from connectors.observability import logs
from connectors.observability.recent_events import (
    MAX_EVENTS,
    MAX_FACT_CHARS,
    MAX_TEXT_CHARS,
    RecentEvents,
)


def test_only_warnings_and_worse_are_kept():
    recent = RecentEvents()
    for level in ("debug", "info", "warning", "error", "critical"):
        recent.add_log_line({"level": level, "event": level, "logger_name": "kafka", "source": 3})
    assert [(event.level, event.text) for event in recent.latest()] == [
        ("error", "critical"),
        ("error", "error"),
        ("warning", "warning"),
    ]
    assert recent.latest()[0].facts == {"source": "3"}
    assert recent.latest()[0].source == "kafka"


def test_a_dead_letter_shows_its_reason_and_origin():
    recent = RecentEvents()
    recent.add_log_line(
        {"level": "error", "event": "dead letter", "reason": "undecodable", "detail": "no JSON",
         "origin": "cdc.pages:0:7"}
    )  # fmt: skip
    (event,) = recent.latest()
    assert (event.level, event.source, event.text) == ("dead-letter", "undecodable", "no JSON")
    assert event.facts == {"origin": "cdc.pages:0:7"}


def test_a_stall_shows_its_service_reason_and_remedy():
    recent = RecentEvents()
    recent.add_log_line(
        {"level": "warning", "event": "waiting", "logger_name": "stream", "service": "embedder",
         "reason": "no model", "since_s": 60, "remedy": "pull it"}
    )  # fmt: skip
    (event,) = recent.latest()
    assert (event.source, event.text) == ("embedder", "waiting: no model")
    assert event.facts == {"remedy": "pull it"}


def test_a_repeated_event_is_counted_and_does_not_displace_others():
    now = iter(range(1000))
    recent = RecentEvents(clock=lambda: float(next(now)))
    recent.add("warning", "kafka", "once")
    for n in range(MAX_EVENTS * 2):
        recent.add("dead-letter", "rag-unreachable", "answered 500", origin=f"cdc.pages:0:{n}")
    again, once = recent.latest()
    assert (again.times, again.since, again.at) == (MAX_EVENTS * 2, 1.0, MAX_EVENTS * 2)
    assert again.facts == {"origin": f"cdc.pages:0:{MAX_EVENTS * 2 - 1}"}
    assert (once.text, once.times) == ("once", 1)


def test_only_the_newest_events_are_kept():
    recent = RecentEvents()
    for n in range(MAX_EVENTS + 5):
        recent.add("warning", "stream", f"number {n}")
    latest = recent.latest()
    assert len(latest) == MAX_EVENTS
    assert latest[0].text == f"number {MAX_EVENTS + 4}"
    assert latest[0].number == MAX_EVENTS + 5


def test_texts_are_one_printable_line_of_bounded_length():
    recent = RecentEvents()
    recent.add("error", "rag", "a\nb\x1b[31m" + "x" * 10_000, page_id="\ud800é\0" * 1000)
    (event,) = recent.latest()
    assert event.text.startswith("a\\nb\\x1b[31mx")
    assert len(event.text) == MAX_TEXT_CHARS
    assert len(event.facts["page_id"]) == MAX_FACT_CHARS
    assert (event.text + event.facts["page_id"]).isprintable()
    event.facts["page_id"].encode()  # fails for a lone surrogate


def test_the_log_adds_each_line_without_secrets(capsys):
    recent = RecentEvents()
    try:
        logs.configure(secrets=["hunter2"], on_line=recent.add_log_line)
        logs.get("rag").warning("refused", url="http://me:hunter2@rag")
    finally:
        structlog.reset_defaults()
    (event,) = recent.latest()
    assert (event.source, event.facts) == ("rag", {"url": "http://me:***@rag"})
    assert "hunter2" not in capsys.readouterr().err
