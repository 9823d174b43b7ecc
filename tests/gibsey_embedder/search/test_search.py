"""A search over fakes: the question is prepared like a page, and the nearest rows are shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gibsey_embedder.cli import app
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from gibsey_embedder.search import search

TEXTS = {
    "zip": "how to compress archives with zip",
    "http": "a client for the http protocol",
    "sort": "sorting lists in place",
}
Run = Callable[..., Result]


@pytest.fixture
def run(stargate: Stargate, ollama: Ollama, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    stargate.vectors.seed((page, {"vector": embed_text(text)}) for page, text in TEXTS.items())
    stargate.pages.seed((page, {"body": text}) for page, text in TEXTS.items())
    environment = {
        "STARGATE_URL": stargate.url,
        "STARGATE_AUTH_TOKEN": TOKEN,
        "EMBED_URL": ollama.embed_url,
        "COLUMNS": "200",
    }

    def invoke(*arguments: str, **settings: str) -> Result:
        return CliRunner().invoke(app, ["search", *arguments], env=environment | settings)

    return invoke


def test_the_best_page_comes_first(run: Run) -> None:
    result = run("compress zip archives", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["compared"] == 3
    assert found["matches"][0]["page_id"] == "zip"
    assert found["matches"][0]["body"] == TEXTS["zip"]
    scores = [match["score"] for match in found["matches"]]
    assert scores == sorted(scores, reverse=True)


def test_matches_are_shown_with_their_texts_and_the_rows_compared(
    run: Run, stargate: Stargate
) -> None:
    stargate.vectors.seed([("orphan", {"vector": embed_text("compress zip archives")})])
    shown = run("compress zip archives", "--limit", "2").stdout
    assert "not in the table of pages" in shown
    assert TEXTS["zip"] in shown
    assert "sort" not in shown
    assert "4 vectors compared, one by one" in shown


def test_the_question_has_its_own_prefix_and_the_case_of_the_pages(
    run: Run, ollama: Ollama
) -> None:
    settings = {"EMBED_PREFIX": "search_document: ", "EMBED_QUERY_PREFIX": "search_query: "}
    run("Zip", EMBED_LOWERCASE="on", **settings)
    assert ollama.texts[-1] == "search_query: zip"
    run("Zip", EMBED_LOWERCASE="off", **settings)
    assert ollama.texts[-1] == "search_query: Zip"


def test_a_warning_counts_the_rows_that_cannot_be_compared(run: Run, stargate: Stargate) -> None:
    stargate.vectors.seed([("short", {"vector": [1.0]}), ("nan", {"vector": ["NaN"] * 768})])
    result = run("zip", "--json")
    assert json.loads(result.stdout)["unfit"] == 2
    assert (
        "2 rows skipped: not 768 finite numbers (1 have 1: see EMBED_DIMENSIONS and the model); "
        "run `gibsey-embedder audit` to list them, and `audit --repair` to embed their pages again"
    ) in result.stderr
    stargate.vectors.columns["model"] = "text"
    result = run("zip", STARGATE_MODEL_COLUMN="model")
    assert "5 rows skipped: their vectors were made by another model, not nomic" in result.stderr


def test_the_second_endpoint_embeds_if_the_first_is_unavailable(run: Run, ollama: Ollama) -> None:
    both = f"http://127.0.0.1:9,{ollama.embed_url}"
    assert run("zip", EMBED_URL=both).exit_code == 0
    result = run("zip", EMBED_URL="http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "cannot connect to http://127.0.0.1:9" in result.stderr
    assert "start the embedder, or correct EMBED_URL" in result.stderr


def test_the_warning_about_an_empty_store_names_backfill(run: Run, stargate: Stargate) -> None:
    stargate.vectors.rows.clear()
    result = run("zip", "--json")
    assert (result.exit_code, json.loads(result.stdout)["matches"]) == (0, [])
    assert "gibsey.page_vectors is empty: start the worker, and run `gibsey-embedder backfill`" in (
        result.stderr
    )


def test_the_error_of_an_unavailable_store_names_its_setting(
    run: Run, stargate: Stargate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "GIVE_UP_AFTER_S", 0.2)
    stargate.refuse()
    result = run("zip")
    assert result.exit_code == 1
    assert f"cannot connect to {stargate.url}" in result.stderr
    assert "(retried for 0 s); start Stargate, or correct STARGATE_URL" in result.stderr


def test_a_row_with_an_unaddressable_id_is_found(run: Run, stargate: Stargate) -> None:
    odd = {"nul \0 inside": "compress zip archives", "x" * 70_000: "compress zip archives"}
    stargate.vectors.seed((page, {"vector": embed_text(text)}) for page, text in odd.items())
    result = run("compress zip archives", "--json")
    assert result.exit_code == 0, result.output
    found = {match["page_id"]: match["body"] for match in json.loads(result.stdout)["matches"]}
    assert {found[page] for page in odd} == {None}


def test_setup_errors_have_a_remedy(run: Run, stargate: Stargate) -> None:
    assert "ollama pull" in run("zip", EMBED_MODEL="no-such").stderr
    missing = run("zip", STARGATE_MODEL_COLUMN="model")
    assert missing.exit_code == 1
    assert "has no column model; correct STARGATE_MODEL_COLUMN, or run in cqlsh" in missing.stderr
    stargate.drop_table("page_vectors")
    result = run("zip")
    assert result.exit_code == 1
    assert "correct STARGATE_TABLE" in result.stderr
    assert run("  ").exit_code == 2
