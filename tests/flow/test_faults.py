"""Six representative faults; the whole matrix is in tests/faults."""

from __future__ import annotations

import time

from tests.eventually import eventually
from tests.flow.recovery_checks import assert_healed, feed_through
from tests.flow.stream import DONE_S, Stream


def test_a_refusing_embedder_stalls_the_stream_until_it_is_back(stream: Stream) -> None:
    worker = feed_through(stream)
    stream.ollama.refuse()
    stream.feed(100, start=100)
    worker.wait_for(r"waiting +service=embedder reason=\"cannot connect to http://127")
    eventually(lambda: "embedder" in worker.stalled(), DONE_S)
    stream.ollama.accept()
    assert_healed(stream, worker, "embedder")


def test_an_embedder_that_answers_500_is_asked_again(stream: Stream) -> None:
    worker = feed_through(stream)
    stream.ollama.faults.status(500, b'{"error":"out of memory"}')
    stream.feed(100, start=100)
    worker.wait_for(r"waiting +service=embedder .*500.*out of memory")
    stream.ollama.faults.clear()
    assert_healed(stream, worker, "embedder")


def test_an_ollama_that_comes_back_as_one_that_loses_capitals_makes_no_wrong_vector(
    stream: Stream,
) -> None:
    worker = feed_through(stream)
    stream.ollama.refuse()
    for number in range(100, 200):
        stream.write(f"page {number}", f"The TEXT of page Number {number}")
    worker.wait_for(r"waiting +service=embedder")
    stream.ollama.model.capitals_defect = True
    stream.ollama.accept()
    worker.wait_for("texts are lower-cased")
    assert_healed(stream, worker, "embedder")


def test_a_busy_stargate_is_asked_again_when_it_said(stream: Stream) -> None:
    worker = feed_through(stream)
    stream.stargate.faults.status(429, b"slow down", {"Retry-After": "2"})
    asked = stream.stargate.stats.requests
    stream.feed(20, start=100)
    eventually(lambda: stream.stargate.stats.requests >= asked + 20, DONE_S)
    began = time.monotonic()
    worker.wait_for(r"waiting +service=stargate .*429")
    assert time.monotonic() - began > 1.0
    assert stream.stargate.stats.requests <= asked + 60
    stream.stargate.faults.clear()
    assert_healed(stream, worker, "stargate")


def test_rows_whose_answers_are_cut_are_written_again(stream: Stream) -> None:
    worker = feed_through(stream)
    stream.stargate.faults.cut()
    stream.feed(50, start=100)
    worker.wait_for(r"waiting +service=stargate .*closed the connection")
    stream.stargate.faults.clear()
    assert_healed(stream, worker, "stargate")


def test_a_hanging_rag_service_costs_dead_letters_but_not_the_streams_pace(
    stream: Stream,
) -> None:
    worker = feed_through(stream, RAG_TIMEOUT="1")
    stream.rag.faults.hang()
    stream.feed(100, start=100)
    letters = stream.wait_letters(100)
    assert {letter.headers["reason"] for letter in letters} == {b"rag-unreachable"}
    stream.wait_rows(200)
    worker.wait_for(r"waiting +service=rag")
    began = time.monotonic()
    stream.feed(200, start=200)
    stream.wait_rows(400)
    assert time.monotonic() - began < 10, "the stream waited for the RAG service"
    stream.wait_letters(300)
    stream.rag.faults.clear()
    worker.wait_for(r"answers again +service=rag")
    stream.feed(100, start=400)
    assert stream.rag.wait_for(200, DONE_S)
    stream.wait_rows(500)
    assert len(stream.letters()) == 300
    stream.wait_committed()


def test_an_embedder_of_other_dimensions_stalls_with_the_remedy_and_no_dead_letter(
    stream: Stream,
) -> None:
    stream.ollama.model.dimensions = 384
    stream.feed(100)
    worker = stream.start()
    worker.wait_for(r"waiting +service=embedder .*384.*remedy=.*EMBED_MODEL")
    assert "embedder" in worker.stalled()
    assert not stream.stargate.vectors.rows
    stream.ollama.model.dimensions = 768
    assert_healed(stream, worker, "embedder")
