"""Pages sent as changes: how the stream reads them, and which pages the topic rejects."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from connectors.core.records import Record
from connectors.kafka.config import KafkaConfig
from dataflow.events.decoder import decode
from dataflow.events.json_parser import MAX_EVENT_BYTES
from dataflow.steps.changes import Change, Version
from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.terminal.retry_policy import RetryPolicy
from gibsey_embedder.topic.change_sender import ChangeSender, event_of
from gibsey_embedder.topic.reader import KafkaUnavailableError
from gibsey_embedder.topic.send_rules import current_write_time_us

SAMPLES = Path(__file__).parents[2] / "samples" / "debezium-cassandra.jsonl"
S = 1_700_000_000_000_000
"""A time in microseconds."""


def sender(broker: str, console: Console | None = None, limit_s: float = 300) -> ChangeSender:
    config = KafkaConfig(broker, options={"fetch.wait.max.ms": 5})
    return ChangeSender(config, S, RetryPolicy(console or Console(quiet=True), limit_s))


def change_of(key: bytes, value: bytes, *, offset: int = 7, timestamp_ms: int = 1) -> Change:
    decoded = decode(Record("cdc.pages", 0, offset, timestamp_ms, key, value))
    assert isinstance(decoded, Change)
    return decoded


@pytest.mark.parametrize("page_id", ["p1", "ü '\"/\n", "42"])
def test_the_stream_reads_a_change_as_an_insert_with_its_write_time(page_id: str) -> None:
    change = change_of(*event_of(page_id, "the text", S))
    assert (change.page_id, change.op, change.body) == (page_id, "c", "the text")
    assert change.version.written_us == S


def test_a_change_loses_to_every_later_write_and_wins_over_every_earlier_one() -> None:
    ours = change_of(*event_of("p", "old", S), offset=100, timestamp_ms=S // 1000 + 60_000).version
    flat_later = Version(None, S // 1000 + 1, 0, 0, 50)  # of the same partition, sent before ours
    flat_earlier = Version(None, S // 1000 - 1, 1, 0, 150)
    assert flat_later.compare(ours) > 0 > ours.compare(flat_later)
    assert flat_earlier.compare(ours) < 0 < ours.compare(flat_earlier)
    for written_us, wins in ((S - 1, False), (S + 1, True)):
        assert (Version(written_us, 0, 0, 0, 0).compare(ours) > 0) is wins


def test_a_change_sent_twice_has_one_version() -> None:
    first, second = (change_of(*event_of("p", "x", S), offset=n).version for n in (1, 2))
    assert second.compare(first) == 0


def test_key_and_cells_are_those_of_debezium() -> None:
    recorded = json.loads(SAMPLES.read_text(encoding="utf-8").splitlines()[0])
    key, value = event_of("p1", "The first page.", S)
    assert key.decode() == recorded["key"]
    cells = recorded["value"]["after"]
    after = json.loads(value)["after"]
    assert after == {"page_id": cells["page_id"], "body": cells["body"]}


def test_confirmed_changes_are_in_the_topic(mock_kafka: MockKafka) -> None:
    sending = sender(mock_kafka.broker)
    for number in range(30):
        sending.send(f"p{number}", "text")
    assert sending.flush() == []
    records = mock_kafka.read("cdc.pages")
    assert len(records) == 30
    assert {record.partition for record in records} == {0, 1, 2}


def test_a_page_that_is_too_large_for_the_stream_is_returned_and_not_sent(
    mock_kafka: MockKafka,
) -> None:
    sending = sender(mock_kafka.broker)
    sending.send("huge", "x" * MAX_EVENT_BYTES)
    sending.send("p", "text")
    assert [unsent.page_id for unsent in sending.flush()] == ["huge"]
    assert sending.flush() == []
    assert len(mock_kafka.read("cdc.pages")) == 1


def test_a_broker_that_is_down_is_reported_until_the_command_gives_up() -> None:
    console = Console(width=200)
    sending = sender("127.0.0.1:9", console, limit_s=1.5)
    sending.send("p", "text")
    began = time.monotonic()
    with console.capture() as output, pytest.raises(KafkaUnavailableError, match=r"127\.0\.0\.1:9"):
        sending.flush()
    assert time.monotonic() - began < 10
    assert "waiting: " in output.get()
    assert "127.0.0.1:9" in output.get()


def test_a_flat_event_of_the_same_millisecond_is_newer() -> None:
    ours = change_of(*event_of("p", "old", current_write_time_us())).version
    flat = Version(None, time.time_ns() // 1_000_000, 0, 0, 50)
    assert flat.compare(ours) > 0
