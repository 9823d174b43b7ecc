"""Dead letters listed and replayed with a fake Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from gibsey_embedder.cli import app
from gibsey_embedder.fakes.kafka import MockKafka

Run = Callable[..., Result]


@pytest.fixture
def run(mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("KAFKA_BROKER", mock_kafka.broker)
    monkeypatch.setenv("KAFKA_OPTIONS", '{"fetch.wait.max.ms": 5}')
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def _event(page: str, body: str) -> bytes:
    return json.dumps({"page_id": page, "body": body, "op": "u"}).encode()


def _letter(
    kafka: MockKafka,
    origin: str,
    value: bytes | None,
    *,
    reason: str = "refused-by-embedder",
    failed_at: str = "2026-01-01T00:00:00.000+00:00",
    **more: str,
) -> None:
    headers = {"reason": reason, "detail": "why", "origin": origin, "failed-at": failed_at}
    headers |= {"gibsey-timestamp": "1000"} | {k.replace("_", "-"): v for k, v in more.items()}
    encoded = [(name, text.encode()) for name, text in headers.items()]
    kafka.produce("cdc.pages.dlq", "k", value, headers=encoded)
    kafka.flush()


def _topic(kafka: MockKafka, *values: bytes) -> None:
    for value in values:
        kafka.produce("cdc.pages", "k", value, partition=1)
    kafka.flush()


def _replayed(kafka: MockKafka) -> list[tuple[int, bytes | None, str]]:
    return [
        (r.partition, r.value, r.headers["gibsey-replay-of"].decode())
        for r in kafka.read("cdc.pages")
        if "gibsey-replay-of" in r.headers
    ]


def test_dead_letters_are_listed_and_counted_by_reason(run: Run, mock_kafka: MockKafka) -> None:
    _letter(mock_kafka, "cdc.pages:1:0", _event("p", "x"))
    _letter(mock_kafka, "cdc.pages:1:1", b"\x1b[31mgarbage", reason="undecodable")
    result = run("dead-letters")
    assert result.exit_code == 0
    assert "undecodable" in result.output
    assert "\x1b[31m" not in result.output
    found = json.loads(run("dead-letters", "--json").output)
    assert found["by_reason"] == {"refused-by-embedder": 1, "undecodable": 1}
    assert found["letters"][0]["page_id"] == "p"


def test_an_empty_selection_is_not_reported_as_an_empty_topic(
    run: Run, mock_kafka: MockKafka
) -> None:
    assert "There are no dead letters in" in run("dead-letters").output
    assert "of this selection" in run("dead-letters", "--reason", "other-space").output
    wrong = run("dead-letters", "--reason", "others")
    assert wrong.exit_code == 2
    assert "undecodable" in wrong.output


def test_a_replay_sends_the_original_once_to_its_own_partition(
    run: Run, mock_kafka: MockKafka
) -> None:
    original = _event("p", "x")
    _topic(mock_kafka, original)
    _letter(mock_kafka, "cdc.pages:1:0", original)
    first = run("replay", "--yes")
    assert first.exit_code == 0, first.output
    assert _replayed(mock_kafka) == [(1, original, "cdc.pages:1:0")]
    assert "0 to send" in run("replay", "--yes").output
    assert len(_replayed(mock_kafka)) == 1


def test_an_event_that_failed_again_is_replayed_again(run: Run, mock_kafka: MockKafka) -> None:
    original = _event("p", "x")
    _topic(mock_kafka, original)
    _letter(mock_kafka, "cdc.pages:1:0", original)
    run("replay", "--yes")
    _letter(mock_kafka, "cdc.pages:1:0", original, failed_at="2026-01-02T00:00:00.000+00:00")
    run("replay", "--yes")
    assert len(_replayed(mock_kafka)) == 2


def test_two_dead_letters_of_one_event_are_replayed_once(run: Run, mock_kafka: MockKafka) -> None:
    original = _event("p", "x")
    _topic(mock_kafka, original)
    _letter(mock_kafka, "cdc.pages:1:0", original, reason="rag-unreachable")
    _letter(mock_kafka, "cdc.pages:1:0", original, reason="refused-by-stargate")
    run("replay", "--yes")
    assert len(_replayed(mock_kafka)) == 1
    assert "0 to send" in run("replay", "--yes").output


def test_a_page_with_a_newer_event_is_not_replayed(run: Run, mock_kafka: MockKafka) -> None:
    original = _event("p", "old")
    _topic(mock_kafka, original, _event("other", "x"), _event("p", "new"))
    _letter(mock_kafka, "cdc.pages:1:0", original)
    result = run("replay", "--yes")
    assert "1 superseded" in result.output
    assert _replayed(mock_kafka) == []


def test_a_missing_value_is_read_from_the_origin(run: Run, mock_kafka: MockKafka) -> None:
    original = _event("p", "long")
    mock_kafka.produce("cdc.pages", "k", original, partition=1, timestamp_ms=1000)
    mock_kafka.flush()
    _letter(mock_kafka, "cdc.pages:1:0", None, original_size=str(len(original)))
    run("replay", "--yes")
    assert _replayed(mock_kafka) == [(1, original, "cdc.pages:1:0")]


def test_a_page_that_was_written_again_with_the_same_text_is_replayed(
    run: Run, mock_kafka: MockKafka
) -> None:
    original = _event("p", "x")
    _topic(mock_kafka, original, original)
    _letter(mock_kafka, "cdc.pages:1:0", original, reason="rag-unreachable")
    assert run("replay", "--yes").exit_code == 0
    assert _replayed(mock_kafka) == [(1, original, "cdc.pages:1:0")]


@pytest.mark.parametrize(("on_delete", "sent"), [("ignore", 1), ("delete", 0)])
def test_a_delete_overtakes_only_if_it_has_an_effect(
    run: Run, mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch, on_delete: str, sent: int
) -> None:
    monkeypatch.setenv("ON_DELETE", on_delete)
    original = _event("p", "x")
    _topic(mock_kafka, original, b'{"page_id":"p","op":"d"}')
    _letter(mock_kafka, "cdc.pages:1:0", original, reason="rag-unreachable")
    run("replay", "--yes")
    assert len(_replayed(mock_kafka)) == sent


def test_timestamps_decide_if_the_topic_was_created_again(run: Run, mock_kafka: MockKafka) -> None:
    """The offset of the origin has no meaning in the new topic."""
    original = _event("p", "old")
    _topic(mock_kafka, _event("p", "new"))
    _letter(mock_kafka, "cdc.pages:1:500", original)
    assert "1 superseded" in run("replay", "--yes").output
    assert _replayed(mock_kafka) == []


def test_another_event_at_the_offset_of_the_original_is_not_replayed(
    run: Run, mock_kafka: MockKafka
) -> None:
    original = _event("p", "long")
    _topic(mock_kafka, _event("q", "else"))
    size = str(len(original))
    _letter(mock_kafka, "cdc.pages:1:0", None, original_size=size)
    result = run("replay", "--yes")
    assert result.exit_code == 1
    assert "1 whose original is no longer in the topic" in result.output
    assert _replayed(mock_kafka) == []


def test_a_value_from_the_origin_is_not_replayed_if_its_page_has_a_newer_event(
    run: Run, mock_kafka: MockKafka
) -> None:
    original = _event("p", "long")
    mock_kafka.produce("cdc.pages", "k", original, partition=1, timestamp_ms=1000)
    _topic(mock_kafka, _event("p", "newer"))
    _letter(mock_kafka, "cdc.pages:1:0", None, original_size=str(len(original)))
    assert "1 superseded" in run("replay", "--yes").output


def test_a_replay_has_the_timestamp_of_its_original(run: Run, mock_kafka: MockKafka) -> None:
    original = _event("p", "x")
    _topic(mock_kafka, original)
    _letter(mock_kafka, "cdc.pages:1:0", original)
    run("replay", "--yes")
    (replayed,) = [r for r in mock_kafka.read("cdc.pages") if "gibsey-replay-of" in r.headers]
    assert replayed.headers["gibsey-timestamp"] == b"1000"


def test_a_dry_run_sends_nothing_and_options_select(run: Run, mock_kafka: MockKafka) -> None:
    _topic(mock_kafka, _event("p", "x"), _event("q", "y"))
    _letter(mock_kafka, "cdc.pages:1:0", _event("p", "x"), reason="rag-unreachable")
    _letter(mock_kafka, "cdc.pages:1:1", _event("q", "y"))
    assert "2 to send" in run("replay", "--dry-run").output
    assert _replayed(mock_kafka) == []
    assert "1 to send" in run("replay", "--dry-run", "--reason", "rag-unreachable").output
    assert "1 to send" in run("replay", "--dry-run", "--page", "q").output
    assert "0 to send" in run("replay", "--dry-run", "--since", "1d").output
    assert run("replay", "--since", "yesterday").exit_code == 2


def test_a_missing_broker_is_reported_in_one_line_with_exit_code_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BROKER", "127.0.0.1:9")
    result = run("dead-letters")
    assert result.exit_code == 1
    assert "127.0.0.1:9" in result.output
    assert "FAIL" not in capfd.readouterr().err  # librdkafka's own log bypasses Python
