"""Repairs of a damaged store and of a store of another model, with commands and stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from gibsey_embedder.cli import app
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.tables import audit_scan
from tests.eventually import eventually
from tests.flow.stream import DONE_S, TOPIC, Stream
from tests.flow.worker import ROOT

PAGES = 60
GOOD = embed_text("some text")


def command(stream: Stream, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    """Start a command of the program beside the stream."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "gibsey_embedder.cli", *arguments],
        cwd=stream.directory,
        env=environment | stream.settings(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(stream: Stream, *arguments: str, **settings: str) -> Result:
    """Run a command in this process."""
    environment = stream.settings(RECOVERY_DIR=str(stream.store), **settings)
    return CliRunner().invoke(app, list(arguments), env=environment)


def audit(stream: Stream, *arguments: str, code: int, **settings: str) -> dict[str, Any]:
    """Run an audit, and return its report."""
    result = run(stream, "audit", "--json", "--skew", "0", *arguments, **settings)
    assert result.exit_code == code, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def write_pages(stream: Stream, count: int = PAGES) -> None:
    """Write pages to the database, and their changes to the topic."""
    stream.feed(count)
    stream.stargate.pages.seed((page, {"body": text}) for page, text in stream.texts.items())


def test_an_audit_finds_and_repairs_known_damage(stream: Stream) -> None:
    vectors = stream.stargate.vectors
    vectors.columns["model"] = "text"
    model: dict[str, Any] = {"STARGATE_MODEL_COLUMN": "model"}
    write_pages(stream)
    stream.start(**model)
    stream.wait_complete()
    stream.wait_committed()
    assert audit(stream, code=0, **model)["result"] == "clean"

    del vectors.rows["page 3"]
    right = orjson.loads(vectors.rows["page 7"])
    vectors.seed(
        [
            ("page 4", {"vector": GOOD[:700]}),
            ("page 5", {"vector": [1e39, *GOOD[1:]]}),
            ("page 6", {"vector": [2 * number for number in GOOD]}),
            ("page 7", {**right, "model": "an older one"}),
            ("of no page", {"vector": GOOD}),
            ("of no page, too", {"vector": GOOD[:3]}),
        ]
    )
    found = audit(stream, code=1, **model)["found"]
    assert found == {"missing": 1, "orphan": 2, "bad-vector": 3, "other-model": 1}

    repaired = audit(stream, "--repair", "--yes", code=0, **model)["mended"]
    assert (repaired["sent"], repaired["removed"], repaired["left"]) == (5, 2, 0)
    stream.wait_complete()
    stream.wait_committed()
    assert set(vectors.rows) == set(stream.texts)
    assert audit(stream, code=0, **model)["result"] == "clean"
    assert not stream.dead_letters()


ODD_IDS = (
    "a/b", "it's", "'quoted'", "'", "''", " edge ", "  ", ".", "..", "../rows", "%2F", "a?b#c;d+e",
    '"q"', "line\nbreak", "tab\t", "rows", "\u6771\u4eac \U0001f469\u200d\U0001f680", "\u00a0", "-0", "null",
)  # fmt: skip
LOOKALIKES = ("edge", "quoted", " it's", "a", "b", "'..'")
"""Rows without a page, whose ids are similar to those of other pages."""


def damaged(right: dict[str, Any]) -> list[dict[str, Any] | None]:
    """Return a row in every wrong form; None means that the row is missing."""
    vector = right["vector"]
    return [
        None,
        {**right, "vector": None},
        {**right, "vector": []},
        {**right, "vector": vector[:-1]},
        {**right, "vector": [*vector, 0.0]},
        {**right, "vector": ["NaN", *vector[1:]]},
        {**right, "vector": ["-Infinity", *vector[1:]]},
        {**right, "vector": [0.0] * len(vector)},
        {**right, "vector": [1.00001 * number for number in vector]},
        {**right, "model": "an older one"},
        {**right, "model": None},
        {"vector": vector},
    ]


def test_an_audit_repairs_every_form_of_damage_for_every_form_of_id(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_scan, "SETTLE_S", 0.0)
    vectors = stream.stargate.vectors
    vectors.columns["model"] = "text"
    model: dict[str, Any] = {"STARGATE_MODEL_COLUMN": "model"}
    for number, page in enumerate(ODD_IDS):
        stream.write(page, f"the text of odd page number {number}", "c")
    stream.stargate.pages.seed((page, {"body": text}) for page, text in stream.texts.items())
    stream.start(**model)
    stream.wait_complete()
    stream.wait_committed()
    rows = {page: orjson.loads(vectors.rows[page]) for page in ODD_IDS}
    for turn in range(3):  # each id has three of the twelve forms, and each form five ids
        for number, (page, right) in enumerate(rows.items()):
            forms = damaged(right)
            row = forms[(number + 5 * turn) % len(forms)]
            vectors.delete(page) if row is None else vectors.seed([(page, row)])
        vectors.seed((page, {"vector": GOOD, "model": "nomic-embed-text"}) for page in LOOKALIKES)
        found = audit(stream, "--limit", "1000", code=1, **model)
        wrong = {page for kind in found["named"].values() for page, _ in kind}
        assert wrong == {*ODD_IDS, *LOOKALIKES}
        assert found["found"]["orphan"] == len(LOOKALIKES)
        repaired = audit(stream, "--repair", "--yes", code=0, **model)["mended"]
        assert (repaired["sent"], repaired["removed"]) == (len(ODD_IDS), len(LOOKALIKES))
        stream.wait_committed()
        assert audit(stream, code=0, **model)["result"] == "clean"
        assert {page: orjson.loads(row) for page, row in vectors.rows.items()} == rows
    assert not stream.dead_letters()


def test_the_steps_of_docs_models_change_the_model_in_place(stream: Stream) -> None:
    vectors, new = stream.stargate.vectors, "another-model"
    write_pages(stream)
    worker = stream.start()
    stream.wait_complete()

    vectors.columns["model"] = "text"
    worker.stop()
    settings: dict[str, Any] = {"EMBED_MODEL": new, "STARGATE_MODEL_COLUMN": "model"}
    checked = run(stream, "doctor", "--pull", **settings)
    assert checked.exit_code == 0, checked.output
    stream.start(**settings)
    assert run(stream, "backfill", "--dry-run", **settings).stdout.startswith("60 to send")
    stream.write("page 1", "written in the mixed time")
    stream.stargate.pages.seed([("page 1", {"body": "written in the mixed time"})])
    eventually(lambda: vectors.text("page 1", "model") == new, DONE_S)
    mixed = run(stream, "search", "page number 7", "--json", **settings)
    assert json.loads(mixed.stdout)["compared"] == 1
    assert "59 rows skipped: their vectors were made by another model" in mixed.stderr
    assert audit(stream, code=1, **settings)["found"]["other-model"] == 59

    done = run(stream, "backfill", "--skew", "0", **settings)
    assert done.exit_code == 0, done.output
    stream.wait_committed()
    assert audit(stream, code=0, **settings)["result"] == "clean"
    for page, text in stream.texts.items():
        assert vectors.text(page, "model") == new
        assert vectors.vector(page) == stream.ollama.expected_vector(text or "", new)
    found = json.loads(run(stream, "search", "page number 7", "--json", **settings).stdout)
    assert (found["compared"], found["matches"][0]["page_id"]) == (60, "page 7")


def test_a_killed_backfill_continues_and_embeds_every_page_again(
    stream: Stream,
) -> None:
    write_pages(stream, 200)
    stream.stargate.pages.seed([("blank", {"body": " "}), ("null", {"body": None})])
    worker = stream.start()
    stream.wait_complete()
    worker.stop()
    stream.ollama.texts.clear()

    worker = stream.start(EMBED_PREFIX="search_document: ")
    prefix = {"EMBED_PREFIX": "search_document: "}
    killed = command(stream, "backfill", "--max-lag", "20", "--skew", "0", **prefix)
    position = stream.directory / "recovery" / "backfill.json"
    eventually(lambda: position.exists() and orjson.loads(position.read_bytes())["sent"], DONE_S)
    killed.kill()
    killed.communicate()
    before = orjson.loads(position.read_bytes())["sent"]
    assert 0 < before < 200

    resumed = run(stream, "backfill", "--skew", "0", **prefix)
    assert resumed.exit_code == 0, resumed.output
    assert resumed.stdout == "200 sent, 2 without text, 0 not accepted.\n"
    assert f"{before} pages were sent" in resumed.stderr
    assert not position.exists()
    stream.wait_committed()
    worker.stop()
    assert {f"search_document: {text}" for text in stream.texts.values()} <= set(
        stream.ollama.texts
    )
    again = sum("gibsey-embedder" in str(r.value) for r in stream.kafka.read(TOPIC))
    assert 200 <= again <= 220, "only what was not noted yet is sent twice"


def test_a_change_that_is_written_during_a_backfill_wins(stream: Stream) -> None:
    """The backfill has read the old text, and sends it after the new text."""
    write_pages(stream, 10)
    stream.start()
    stream.wait_complete()
    stream.kafka.flush()
    began = command(stream, "backfill", "--skew", "2")
    position = stream.directory / "recovery" / "backfill.json"
    eventually(position.exists, DONE_S)
    stream.write("page 1", "written while the backfill waits for the clocks")  # not in the table
    stream.kafka.flush()
    out, err = began.communicate(timeout=DONE_S)
    assert began.returncode == 0, out + err
    stream.wait_committed()
    stream.wait_complete()
