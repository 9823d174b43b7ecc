"""Audit, backfill and search with a real Kafka and a real Ollama; Stargate is a fake."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from typer.testing import CliRunner

from gibsey_embedder.cli import app
from tests.eventually import eventually
from tests.real.stream import Embedder, RealStream

pytestmark = [pytest.mark.real, pytest.mark.ollama, pytest.mark.timeout(240)]

PAGES = 60
PREFIXES: dict[str, Any] = {
    "EMBED_PREFIX": "search_document: ",
    "EMBED_QUERY_PREFIX": "search_query: ",
}


def run(stream: RealStream, *arguments: str, **settings: str) -> Any:
    """Run a command that prints JSON; returns exit code and what it printed."""
    result = CliRunner().invoke(app, list(arguments), env=stream.settings | settings)
    return result.exit_code, json.loads(result.stdout) if "--json" in arguments else result.stdout


def write_pages(stream: RealStream) -> None:
    stream.feed(range(PAGES))
    stream.stargate.pages.seed((page, {"body": text}) for page, text in stream.texts.items())


def test_a_damaged_store_is_repaired_through_the_stream(stream: RealStream):
    write_pages(stream)
    worker = stream.start()
    stream.wait_complete()
    vectors = stream.stargate.vectors
    for number in range(0, PAGES, 10):
        del vectors.rows[f"page {number}"]
    vectors.seed([("page 1", {"vector": [1.0]}), ("of no page", {"vector": [1.0]})])
    code, report = run(stream, "audit", "--json", "--repair", "--yes", "--skew", "0")
    assert code == 0, report
    assert (report["found"]["missing"], report["found"]["bad-vector"]) == (PAGES // 10, 1)
    assert (report["mended"]["sent"], report["mended"]["removed"]) == (PAGES // 10 + 1, 1)
    stream.wait_complete()
    assert run(stream, "audit", "--json")[1]["result"] == "clean"
    worker.stop()


def other_model(stream: RealStream) -> str:
    """Another model of the Ollama: TEST_OTHER_EMBED_MODEL, else a copy under another name."""
    if named := os.environ.get("TEST_OTHER_EMBED_MODEL"):
        return named
    copy = f"{stream.embedder.model}-copy"
    stream.embedder.copy(copy)
    return copy


def test_the_steps_of_docs_models_change_the_model_in_place(stream: RealStream):
    write_pages(stream)
    worker = stream.start()
    stream.wait_complete()
    stream.stargate.vectors.columns["model"] = "text"
    worker.stop()
    settings: dict[str, Any] = {
        "EMBED_MODEL": other_model(stream),
        "STARGATE_MODEL_COLUMN": "model",
    }
    worker = stream.start(**settings)
    code, report = run(stream, "audit", "--json", **settings)
    assert (code, report["found"]["other-model"]) == (1, PAGES)
    assert run(stream, "backfill", "--dry-run", **settings)[1].startswith(f"{PAGES} to send")
    assert run(stream, "backfill", "--skew", "0", **settings)[0] == 0
    written, new = stream.stargate.vectors.text, settings["EMBED_MODEL"]
    eventually(lambda: {written(page, "model") for page in stream.texts} == {new}, 90)
    code, report = run(stream, "audit", "--json", **settings)
    assert (code, report["result"]) == (0, "clean")
    stream.embedder = Embedder(stream.embedder.url, new)
    stream.wait_complete()
    worker.stop()


def test_a_backfill_keeps_within_its_lag_and_gives_every_page_its_new_vector(stream: RealStream):
    write_pages(stream)
    stream.start().stop()
    stream.start(**PREFIXES)
    eventually(lambda: stream.rows == PAGES, 90)
    before = dict(stream.stargate.vectors.rows)
    code, output = run(stream, "backfill", "--max-lag", "20", "--skew", "0", **PREFIXES)
    assert (code, output) == (0, f"{PAGES} sent, 0 without text, 0 not accepted.\n")
    stream.wait_committed()
    assert stream.stargate.vectors.writes.total() >= 2 * PAGES
    assert set(before) == set(stream.stargate.vectors.rows)
    assert run(stream, "audit", "--json", **PREFIXES)[1]["result"] == "clean"
    _, found = run(stream, "search", "what page 7 says", "--json", "--limit", "3", **PREFIXES)
    assert found["compared"] == PAGES
    assert len(found["matches"]) == 3
    assert found["matches"][0]["body"]
