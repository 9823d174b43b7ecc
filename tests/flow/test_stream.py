"""The real program with fakes of all services: events, results, stops and restarts."""

from __future__ import annotations

import json
import re
import signal
import socket
import time

import pytest
from confluent_kafka import Producer

from tests.eventually import eventually
from tests.flow.stream import DONE_S, TOPIC, Stream
from tests.flow.worker import free_port

SOON_S = 10.0
"""The maximum duration of a stop while all services respond."""


# --- results of events


@pytest.mark.parametrize("workers", [1, 4])
def test_every_page_becomes_the_right_row_and_one_notification(
    stream: Stream, workers: int
) -> None:
    stream.feed(300)
    worker = stream.start(workers)
    stream.wait_complete()
    assert set(stream.rag.counts.values()) == {1}
    assert set(stream.stargate.vectors.writes.values()) == {1}
    assert set(stream.embedded().values()) == {1}
    assert not stream.dead_letters()
    stream.wait_committed()
    assert "Upsert OK" in worker.log
    eventually(lambda: worker.status()["lag"]["total"] == 0, DONE_S)
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize("on_delete", ["ignore", "delete"])
def test_the_newest_text_wins_and_a_row_is_deleted_only_with_the_setting(
    stream: Stream, on_delete: str
) -> None:
    stream.start(2, ON_DELETE=on_delete)
    stream.feed(20)
    stream.wait_complete()
    for round_ in range(5):
        for number in range(10):
            stream.write(f"page {number}", f"text {round_} of page number {number}")
    for number in range(10, 15):
        stream.delete(f"page {number}")
    stream.write("page 14", "written again after its delete")
    stream.write("last", "the end", "c")
    stream.kafka.flush()
    stream.wait_complete(deletes=on_delete == "delete")
    kept = [f"page {n}" in stream.stargate.vectors.rows for n in range(10, 14)]
    assert kept == [on_delete == "ignore"] * 4
    assert not stream.dead_letters()


# --- bad input

BAD = {
    "empty": b"",
    "no JSON": b"no json at all",
    "cut": b'{"page_id":"x","body":"half',
    "a list": b"[1,2]",
    "a number": b"7",
    "null body in a create": b'{"page_id":"x","body":null,"op":"c"}',
    "no body in a create": b'{"page_id":"x","op":"c"}',
    "body of another type": b'{"page_id":"x","body":5,"op":"u"}',
    "no page_id": b'{"body":"text","op":"c"}',
    "page_id empty": b'{"page_id":"","body":"text","op":"c"}',
    "page_id null": b'{"page_id":null,"body":"text","op":"c"}',
    "page_id an object": b'{"page_id":{},"body":"text","op":"c"}',
    "page_id with NUL": b'{"page_id":"a\\u0000b","body":"text","op":"c"}',
    "page_id with half a surrogate pair": b'{"page_id":"a\\ud800b","body":"text","op":"c"}',
    "body with half a surrogate pair": b'{"page_id":"x","body":"\\udfff","op":"c"}',
    "invalid UTF-8": b'{"page_id":"x","body":"\xff\xfe","op":"c"}',
    "NaN": b'{"page_id":"x","body":NaN,"op":"c"}',
    "Infinity as page_id": b'{"page_id":-Infinity,"body":"text","op":"c"}',
    "deep": b'{"page_id":"x","op":"c","body":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep page_id": b'{"op":"c","body":"text","page_id":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "a byte order mark": b'\xef\xbb\xbf{"page_id":"x","body":"text","op":"c"}',
    "UTF-16": '{"page_id":"x","body":"text","op":"c"}'.encode("utf-16"),
    "page_id true": b'{"page_id":true,"body":"text","op":"c"}',
    "page_id in a list": b'{"page_id":["x"],"body":"text","op":"c"}',
    "page_id with invalid UTF-8": b'{"page_id":"\xed\xa0\x80","body":"text","op":"c"}',
    "a Debezium insert without body": (
        b'{"op":"i","source":{"ts_us":5},"after":{"page_id":{"value":"x"},"body":null}}'
    ),
    "another table": b'{"op":"i","source":{"ts_us":5},"after":{"id":{"value":"x"}}}',
    "unwrapped without its op": b'{"page_id":{"value":"x"},"body":{"value":"text"}}',
    "a heartbeat": b'{"ts_ms":1795691804711}',
    "a schema-registry frame among good events": b"\x00\x00\x00\x00\x01abc",
    "no op": b'{"page_id":"x","body":"text"}',
    "op of another type": b'{"page_id":"x","body":"text","op":1}',
}

SKIPPED = {
    "unknown op": b'{"page_id":"x","body":"text","op":"t"}',
    "update without body": b'{"page_id":"x","op":"u"}',
    "tombstone": None,
    "range tombstone": b'{"op":"r","source":{"ts_us":5},"after":{"page_id":{"value":"x"},"body":null}}',
    "truncate": b'{"op":"t","source":{"ts_us":5},"after":null}',
}

ODD = {
    "1e400": b'{"page_id":1e400,"body":"a number beyond all floats","op":"c"}',
    "9" * 5000: b'{"page_id":' + b"9" * 5000 + b',"body":"a number of many digits","op":"c"}',
    "the last": b'{"page_id":"x","body":"no","page_id":"the last","body":"named twice","op":"c"}',
    "  ": b'{"page_id":"  ","body":"blanks are a page id","op":"c"}',
    "in another form": (
        b'{"schema":{},"payload":{"op":"c","ts_us":9,"source":{"ts_us":0},"after":{"page_id":'
        b'{"value":"in another form","deletion_ts":7,"set":true},"body":"written at time 0"}}}'
    ),
}
"""Valid events that look invalid, by page."""


def test_bad_events_become_dead_letters_and_do_not_affect_their_neighbours(stream: Stream) -> None:
    stream.feed(1)
    for number, value in enumerate([*BAD.values(), *SKIPPED.values()]):
        stream.raw(value, f"key {number}".encode())
        stream.write(f"neighbour {number}", f"text of neighbour {number}", "c")
    stream.kafka.flush()
    worker = stream.start()
    stream.wait_complete()
    dead_letters = {
        dead_letter.key: dead_letter for dead_letter in stream.wait_dead_letters(len(BAD))
    }
    assert len(stream.dead_letters()) == len(BAD)
    sent = {record.key: record for record in stream.kafka.read(TOPIC)}
    for number, (name, value) in enumerate(BAD.items()):
        dead_letter = dead_letters[f"key {number}".encode()]
        assert dead_letter.value == value, name
        assert dead_letter.headers["reason"] == b"undecodable", name
        assert dead_letter.headers["detail"], name
        offset = sent[f"key {number}".encode()].offset
        assert dead_letter.headers["origin"].decode() == f"{TOPIC}:0:{offset}", name
        assert re.fullmatch(
            r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00", dead_letter.headers["failed-at"].decode()
        )
        worker.wait_for(rf"origin={TOPIC}:0:{offset} reason=undecodable")  # logged once confirmed
    assert "x" not in stream.stargate.vectors.rows
    stream.wait_committed()


def test_events_that_only_look_bad_become_rows(stream: Stream) -> None:
    for page, value in ODD.items():
        body = json.loads(value.replace(b"9" * 5000, b"9"))  # Python does not parse longer numbers
        body = body.get("payload", {}).get("after", body)["body"]
        stream.texts[page] = body
        stream.raw(value, b"key")
    stream.kafka.flush()
    stream.start()
    stream.wait_complete()
    assert not stream.dead_letters()
    assert len(stream.stargate.vectors.rows) == len(ODD)


def test_a_page_id_that_is_too_long_for_stargate_costs_only_its_own_row(stream: Stream) -> None:
    page = "long " * 14_000
    stream.raw(json.dumps({"page_id": page, "body": "of 70 kB", "op": "c"}).encode(), b"long")
    stream.feed(10)
    stream.start()
    stream.wait_complete()
    (dead_letter,) = stream.wait_dead_letters(1)
    assert dead_letter.key == b"long"
    assert dead_letter.headers["reason"] == b"refused-by-stargate"
    assert b"too long" in dead_letter.headers["detail"]
    stream.wait_committed()


def test_a_dead_letter_that_is_too_large_for_its_topic_has_no_value(stream: Stream) -> None:
    large = b'{"page_id":"large","op":"c","body":"' + b"a" * 1_100_000 + b'"}'
    producer = Producer({"bootstrap.servers": stream.kafka.broker, "message.max.bytes": 4_000_000})
    producer.produce(TOPIC, key=b"large", value=large, partition=0)
    assert producer.flush(10) == 0
    stream.feed(10)
    options = {"fetch.wait.max.ms": 5, "message.max.bytes": 1_000_000}
    stream.start(KAFKA_OPTIONS=json.dumps(options))
    stream.wait_complete()
    (dead_letter,) = stream.wait_dead_letters(1)
    assert (dead_letter.key, dead_letter.value) == (b"large", None)
    assert dead_letter.headers["original-size"] == str(len(large)).encode()
    assert dead_letter.headers["reason"] == b"undecodable"
    stream.wait_committed()


def test_a_topic_of_schema_registry_frames_stalls_the_stream_until_a_valid_event(
    stream: Stream,
) -> None:
    for number in range(150):
        stream.raw(b"\x00\x00\x00\x00\x01" + bytes([number]), partition=number % 3)
    stream.kafka.flush()
    worker = stream.start()
    worker.wait_for(r"waiting .*schema-registry frames.*JsonConverter")
    worker.wait_for("status port")
    assert "kafka" in worker.stalled()
    assert not stream.dead_letters()
    stream.feed(20)
    stream.wait_complete()
    assert len(stream.wait_dead_letters(150)) == 150
    eventually(lambda: not worker.stalled(), DONE_S)
    stream.wait_committed()


def test_a_hundred_invalid_events_in_a_row_stall_the_stream(stream: Stream) -> None:
    for number in range(300):
        stream.raw(b"<xml/>", partition=number % 3)
    stream.kafka.flush()
    for _ in range(2):  # rows and commits in the meantime must not end the stall
        worker = stream.start()
        worker.wait_for(r"waiting .*none of the first 100 events.*KAFKA_TOPIC")
        worker.wait_for("status port")
        assert "kafka" in worker.stalled()
        worker.stop()
    assert not stream.dead_letters()


# --- stops and restarts


def test_a_restart_with_another_number_of_workers_embeds_nothing_again_and_misses_nothing(
    stream: Stream,
) -> None:
    stream.ollama.text_s = 0.003
    stream.feed(400)
    for workers, rows in ((1, 80), (4, 200), (2, 400)):
        worker = stream.start(workers)
        stream.wait_rows(rows)
        began = time.monotonic()
        worker.stop()
        assert time.monotonic() - began < SOON_S
    stream.wait_complete(1)
    assert set(stream.embedded().values()) == {1}
    assert set(stream.rag.counts.values()) == {1}
    assert not stream.dead_letters()


def test_nothing_is_missing_after_kills(stream: Stream) -> None:
    stream.ollama.text_s = 0.003
    stream.feed(300)
    for workers, rows in ((1, 80), (4, 180)):
        worker = stream.start(workers)
        stream.wait_rows(rows)
        worker.kill()
    stream.start(2)
    stream.wait_complete()
    assert not stream.dead_letters()


def test_without_a_store_the_stream_resumes_from_the_committed_offsets(stream: Stream) -> None:
    stream.feed(100)
    worker = stream.start(store=False)
    stream.wait_complete()
    stream.wait_committed()
    worker.kill()
    done = set(stream.texts.values())
    stream.ollama.faults.hang(when=lambda request: request.mentions("number 150"))
    stream.feed(100, start=100)
    worker = stream.start(store=False)
    stream.wait_rows(150)
    worker.kill()
    stream.ollama.faults.clear()
    stream.start(store=False)
    stream.wait_complete()
    stream.wait_committed()
    again = [text for text, count in stream.embedded().items() if count > 1 and text in done]
    assert again == []


def test_a_store_of_another_version_is_rejected_in_one_line(stream: Stream) -> None:
    stream.feed(5)
    other = stream.start(code="import dataflow.steps.window as w; w.STATE_VERSION = 99")
    stream.wait_complete()
    other.stop()
    worker = stream.start()
    assert worker.wait() == 1
    (line,) = worker.log.splitlines()
    assert "layout 99 with" in line
    assert "remove the store" in line
    assert "Traceback" not in worker.log


def test_a_store_with_the_buckets_of_version_0_1_is_rejected_in_one_line(stream: Stream) -> None:
    stream.feed(5)
    names = "import connectors.core.buckets as b; b.BUCKET_KEYS = [f'{n:02d}' for n in range(16)]"
    old = stream.start(code=names)
    stream.wait_complete()
    old.stop()
    worker = stream.start(workers=4)
    assert worker.wait() == 1
    (line,) = worker.log.splitlines()
    assert "the recovery store has a bucket 0" in line
    assert "remove the store" in line


def test_all_problems_of_settings_are_reported_at_once_with_exit_code_2(stream: Stream) -> None:
    worker = stream.start(store=False, WINDOW_PAGES="no", ON_DELETE="maybe", EMBED_URL="gopher:x")
    assert worker.wait() == 2
    for name in ("WINDOW_PAGES", "ON_DELETE", "EMBED_URL"):
        assert name in worker.log
    assert "Traceback" not in worker.log


def test_a_second_worker_on_the_same_store_is_rejected_in_one_line(stream: Stream) -> None:
    first = stream.start().wait_started()
    second = stream.start()
    assert second.wait() == 1
    assert len(second.log.splitlines()) == 1
    assert "in use by process" in second.log
    assert first.is_running


def test_bytewaxs_own_web_server_gets_a_warning(stream: Stream) -> None:
    worker = stream.start(store=False, BYTEWAX_DATAFLOW_API_ENABLED="0")
    worker.wait_for("port 3030 of all addresses.*remedy=.*even 0, turns it on")
    worker.kill()  # with or without a free port for that server, which this test does not check


# --- clusters


def test_a_cluster_ends_when_a_process_dies_and_completes_all_pages_after_a_restart(
    stream: Stream,
) -> None:
    stream.ollama.text_s = 0.002
    stream.feed(300)
    members = stream.start_cluster()
    stream.wait_rows(100)
    members[1].kill()
    codes = [member.wait() for member in members]
    assert codes[1] == -signal.SIGKILL
    assert codes[0] != 0
    stream.start_cluster()
    stream.wait_complete()
    assert not stream.dead_letters()


def test_a_cluster_address_that_is_in_use_is_reported(stream: Stream) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        addresses = f"127.0.0.1:{taken.getsockname()[1]};127.0.0.1:{free_port()}"
        worker = stream.start(arguments=["-i", "0", "-a", addresses], STATUS_PORT="0")
        assert worker.wait() == 1
    assert "cannot listen at its own address" in worker.log
    assert "BYTEWAX_ADDRESSES" in worker.log


def test_a_cluster_without_a_store_is_rejected(stream: Stream) -> None:
    addresses = f"127.0.0.1:{free_port()};127.0.0.1:{free_port()}"
    worker = stream.start(store=False, arguments=["-i", "0", "-a", addresses])
    assert worker.wait() == 1
    assert len(worker.log.splitlines()) == 1
    assert "need a recovery store" in worker.log
