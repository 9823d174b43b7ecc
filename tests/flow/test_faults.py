"""Representative faults; the complete matrix is in tests/faults."""

from __future__ import annotations

import time

from tests.eventually import eventually
from tests.flow.service_recovery import assert_recovered, process_first_pages
from tests.flow.stream import DONE_S, Stream


def test_an_embedder_that_is_down_stalls_the_stream_until_it_is_back(stream: Stream) -> None:
    worker = process_first_pages(stream)
    stream.ollama.refuse()
    stream.feed(100, start=100)
    worker.wait_for(r"waiting +service=embedder reason=\"cannot connect to http://127")
    eventually(lambda: "embedder" in worker.stalled(), DONE_S)
    stream.ollama.accept()
    assert_recovered(stream, worker, "embedder")


def test_a_request_is_repeated_after_a_500_of_the_embedder(stream: Stream) -> None:
    worker = process_first_pages(stream)
    stream.ollama.faults.status(500, b'{"error":"out of memory"}')
    stream.feed(100, start=100)
    worker.wait_for(r"waiting +service=embedder .*500.*out of memory")
    stream.ollama.faults.clear()
    assert_recovered(stream, worker, "embedder")


def test_an_ollama_that_restarts_with_the_capitals_defect_makes_no_wrong_vector(
    stream: Stream,
) -> None:
    worker = process_first_pages(stream)
    stream.ollama.refuse()
    for number in range(100, 200):
        stream.write(f"page {number}", f"The TEXT of page Number {number}")
    worker.wait_for(r"waiting +service=embedder")
    stream.ollama.model.capitals_defect = True
    stream.ollama.accept()
    worker.wait_for("texts are lower-cased")
    assert_recovered(stream, worker, "embedder")


def test_a_busy_stargate_gets_its_retry_after_the_given_time(stream: Stream) -> None:
    worker = process_first_pages(stream)
    stream.stargate.faults.status(429, b"slow down", {"Retry-After": "2"})
    requests = stream.stargate.stats.requests
    stream.feed(20, start=100)
    eventually(lambda: stream.stargate.stats.requests >= requests + 20, DONE_S)
    began = time.monotonic()
    worker.wait_for(r"waiting +service=stargate .*429")
    assert time.monotonic() - began > 1.0
    assert stream.stargate.stats.requests <= requests + 60
    stream.stargate.faults.clear()
    assert_recovered(stream, worker, "stargate")


def test_rows_with_cut_responses_are_written_again(stream: Stream) -> None:
    worker = process_first_pages(stream)
    stream.stargate.faults.cut()
    stream.feed(50, start=100)
    worker.wait_for(r"waiting +service=stargate .*closed the connection")
    stream.stargate.faults.clear()
    assert_recovered(stream, worker, "stargate")


def test_a_hanging_rag_service_costs_dead_letters_but_does_not_slow_the_stream(
    stream: Stream,
) -> None:
    worker = process_first_pages(stream, RAG_TIMEOUT="1")
    stream.rag.faults.hang()
    stream.feed(100, start=100)
    dead_letters = stream.wait_dead_letters(100)
    assert {dead_letter.headers["reason"] for dead_letter in dead_letters} == {b"rag-unreachable"}
    stream.wait_rows(200)
    worker.wait_for(r"waiting +service=rag")
    began = time.monotonic()
    stream.feed(200, start=200)
    stream.wait_rows(400)
    assert time.monotonic() - began < 10, "the stream waited for the RAG service"
    stream.wait_dead_letters(300)
    stream.rag.faults.clear()
    worker.wait_for(r"answers again +service=rag")
    stream.feed(100, start=400)
    assert stream.rag.wait_for(200, DONE_S)
    stream.wait_rows(500)
    assert len(stream.dead_letters()) == 300
    stream.wait_committed()


def test_an_embedder_with_other_dimensions_stalls_the_stream_with_a_remedy_and_no_dead_letter(
    stream: Stream,
) -> None:
    stream.ollama.model.dimensions = 384
    stream.feed(100)
    worker = stream.start()
    worker.wait_for(r"waiting +service=embedder .*384.*remedy=.*EMBED_MODEL")
    assert "embedder" in worker.stalled()
    assert not stream.stargate.vectors.rows
    stream.ollama.model.dimensions = 768
    assert_recovered(stream, worker, "embedder")
