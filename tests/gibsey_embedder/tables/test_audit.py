"""The audit over fakes: what it finds, what it leaves alone, and how it ends.

That the stream then does what was sent is in tests/flow/test_repair.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from connectors.stores.stargate.row_keys import path_segment
from gibsey_embedder.cli import app
from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.message import Request
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from gibsey_embedder.tables import audit_scan

GOOD = {"vector": embed_text("text")}
BODY = {"body": "text"}
Run = Callable[..., Result]


@pytest.fixture
def run(
    stargate: Stargate, mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Run an audit that waits for nothing."""
    monkeypatch.setattr(audit_scan, "SETTLE_S", 0.0)
    monkeypatch.chdir(tmp_path)
    environment = {
        "STARGATE_URL": stargate.url,
        "STARGATE_AUTH_TOKEN": TOKEN,
        "KAFKA_BROKER": mock_kafka.broker,
        "KAFKA_OPTIONS": '{"fetch.wait.max.ms": 5}',
        "COLUMNS": "200",
    }

    def invoke(*arguments: str, answer: str = "", **settings: str) -> Result:
        command = ["audit", "--skew", "0", *arguments]
        return CliRunner().invoke(app, command, input=answer, env=environment | settings)

    return invoke


def report(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def seed(stargate: Stargate, *, pages: list[str], vectors: list[str]) -> None:
    stargate.pages.seed((page, BODY) for page in pages)
    stargate.vectors.seed((page, GOOD) for page in vectors)


def sent(kafka: MockKafka) -> list[str]:
    """The pages that were sent into the topic."""
    events = [orjson.loads(record.value or b"") for record in kafka.read("cdc.pages")]
    return sorted(event["after"]["page_id"]["value"] for event in events)


def row_asked(table: str, page_id: str) -> Callable[[Request], bool]:
    """Whether a request is for one row."""
    place = f"/{table}/{path_segment(page_id)}"
    return lambda request: request.method == "GET" and request.path.endswith(place)


def test_a_right_store_is_clean(run: Run, stargate: Stargate) -> None:
    seed(stargate, pages=["a", "b"], vectors=["a", "b"])
    stargate.pages.seed([("blank", {"body": " "}), ("null", {"body": None})])
    shown = run()
    assert shown.exit_code == 0, shown.output
    assert "4 pages, 2 vectors." in shown.stdout
    assert "Nothing is wrong." in shown.stdout
    assert run("--repair").exit_code == 0


def test_every_problem_is_named_and_counted(run: Run, stargate: Stargate) -> None:
    seed(stargate, pages=["a", "b", "c", "d"], vectors=["a", "e", "f"])
    stargate.vectors.seed([("b", {"vector": [0.5]})])
    shown = run()
    assert shown.exit_code == 1
    for line in ("2  pages without a vector", "2  vectors without a page", "1  vectors of another"):
        assert line in shown.stdout
    assert "1 numbers instead of 768" in shown.stdout
    found = report(run("--json", "--limit", "1"))
    assert found["found"] == {"missing": 2, "orphan": 2, "bad-vector": 1, "other-model": 0}
    assert found["named"]["missing"] == [["c", ""]]


def test_another_model_is_a_problem_if_models_are_stored(run: Run, stargate: Stargate) -> None:
    seed(stargate, pages=["a", "b", "c"], vectors=["a"])
    stargate.vectors.columns["model"] = "text"
    stargate.vectors.seed([("b", {**GOOD, "model": "nomic-embed-text"})])
    stargate.vectors.seed([("c", {**GOOD, "model": "text-embedding-3-small"})])
    assert run("--json").exit_code == 0
    found = report(run("--json", STARGATE_MODEL_COLUMN="model"))
    assert found["found"]["other-model"] == 2
    assert found["named"]["other-model"] == [
        ["a", "no model is stored"],
        ["c", "made by text-embedding-3-small"],
    ]


@pytest.mark.parametrize("arguments", [(), ("--repair", "--yes")])
def test_a_missing_model_column_is_reported_with_its_cql(
    run: Run, stargate: Stargate, mock_kafka: MockKafka, arguments: tuple[str, ...]
) -> None:
    seed(stargate, pages=["a", "b"], vectors=["a", "gone"])
    result = run(*arguments, STARGATE_MODEL_COLUMN="model")
    assert result.exit_code == 1
    assert result.stderr == (
        "the table gibsey.page_vectors has no column model; correct STARGATE_MODEL_COLUMN, "
        "or run in cqlsh: ALTER TABLE gibsey.page_vectors ADD model text;\n"
    )
    assert sent(mock_kafka) == []
    assert set(stargate.vectors.rows) == {"a", "gone"}


def test_a_table_of_pages_without_texts_is_reported(run: Run, stargate: Stargate) -> None:
    stargate.pages.columns = {"words": "text"}
    result = run()
    assert result.exit_code == 1
    assert (
        result.stderr == "the table gibsey.pages has no column body; correct STARGATE_PAGES_TABLE\n"
    )


def test_a_role_that_may_not_read_schemas_can_audit(run: Run, stargate: Stargate) -> None:
    seed(stargate, pages=["a"], vectors=["a"])
    denied = b'{"description":"Role unauthorized for operation: no","code":401}'
    stargate.faults.status(401, denied, when=lambda request: "/schemas/" in request.path)
    assert run("--json").exit_code == 0


def test_unaddressable_ids_are_reported_and_stop_nothing(
    run: Run, stargate: Stargate, mock_kafka: MockKafka
) -> None:
    """A NUL, which the stream takes for undecodable, and one too long for a URL."""
    seed(stargate, pages=["nul \0", "good", "bad"], vectors=["x" * 70_000, "good"])
    found = report(run("--json"))
    assert found["found"] == {"missing": 2, "orphan": 1, "bad-vector": 0, "other-model": 0}
    assert ["nul \0", "Stargate takes no such id (400)"] in found["named"]["missing"]
    repaired = report(run("--json", "--repair", "--yes"))
    assert (repaired["mended"]["sent"], repaired["mended"]["left"]) == (1, 2)
    assert sent(mock_kafka) == ["bad"]
    assert "good" in stargate.vectors.rows


def test_a_page_that_changes_during_the_scan_is_not_a_problem(run: Run, stargate: Stargate) -> None:
    seed(stargate, pages=["written"], vectors=["deleted"])

    def arrives(request: Request) -> bool:
        if "rows" not in request.path:  # the first look at a single row
            stargate.vectors.seed([("written", GOOD)])
            stargate.vectors.delete("deleted")
        return False

    stargate.faults.status(500, when=arrives)
    assert report(run("--json"))["found"] == {
        "missing": 0,
        "orphan": 0,
        "bad-vector": 0,
        "other-model": 0,
    }


def test_a_page_whose_vector_is_being_written_is_not_a_problem(
    run: Run, stargate: Stargate
) -> None:
    seed(stargate, pages=["p"], vectors=[])
    looks = []

    def second_look(request: Request) -> bool:
        if row_asked("pages", "p")(request):
            looks.append(request)
            if len(looks) == 2:
                stargate.vectors.seed([("p", GOOD)])
        return False

    stargate.faults.status(500, when=second_look)
    assert report(run("--json"))["result"] == "clean"
    assert len(looks) == 2


def test_a_repair_asks_for_confirmation_first(
    run: Run, stargate: Stargate, mock_kafka: MockKafka
) -> None:
    seed(stargate, pages=["a", "b"], vectors=["a", "gone"])
    refused = run("--repair", answer="n\n")
    assert refused.exit_code == 1
    assert "Send 1 pages into cdc.pages and remove 1 vectors?" in refused.stderr
    assert "ON_DELETE=ignore keeps" in refused.stderr
    assert sent(mock_kafka) == []
    assert "gone" in stargate.vectors.rows
    done = run("--repair", answer="y\n")
    assert done.exit_code == 0, done.output
    assert "1 pages sent into cdc.pages, 1 vectors removed" in done.stdout
    assert sent(mock_kafka) == ["b"]
    assert list(stargate.vectors.rows) == ["a"]


def test_kept_orphans_are_not_a_problem(run: Run, stargate: Stargate) -> None:
    seed(stargate, pages=["a"], vectors=["a", "gone"])
    kept = run("--json", "--keep-orphans")
    assert (kept.exit_code, report(kept)["found"]["orphan"]) == (0, 1)
    stargate.vectors.seed([("bad, but of no page", {"vector": [1.0]})])
    del stargate.vectors.rows["a"]
    assert run("--repair", "--yes", "--keep-orphans").exit_code == 0
    assert set(stargate.vectors.rows) == {"gone", "bad, but of no page"}


def test_a_kept_orphan_with_an_unaddressable_id_does_not_count_as_left(
    run: Run, stargate: Stargate
) -> None:
    seed(stargate, pages=["a"], vectors=["g" * 70_000])
    assert run("--repair", "--yes").exit_code == 1
    seed(stargate, pages=["b"], vectors=[])
    assert run("--repair", "--yes", "--keep-orphans").exit_code == 0


def test_a_bad_vector_whose_page_has_no_text_is_removed(
    run: Run, stargate: Stargate, mock_kafka: MockKafka
) -> None:
    stargate.pages.seed([("blank", {"body": ""})])
    stargate.vectors.seed([("blank", {"vector": [1.0]})])
    assert report(run("--repair", "--yes", "--json"))["mended"]["removed"] == 1
    assert not stargate.vectors.rows
    assert sent(mock_kafka) == []


@pytest.mark.parametrize("look", [4, 5])
def test_a_page_that_comes_back_around_the_removal_is_left_for_the_next_audit(
    run: Run, stargate: Stargate, look: int
) -> None:
    """Looks at the page: twice for the audit, once in its turn, before the removal, behind it."""
    seed(stargate, pages=["a"], vectors=["a", "back"])
    looks = []

    def comes_back(request: Request) -> bool:
        if row_asked("pages", "back")(request):
            looks.append(request)
            if len(looks) == look:
                stargate.pages.seed([("back", BODY)])
        return False

    stargate.faults.status(500, when=comes_back)
    result = run("--repair", "--yes", "--json")
    assert result.exit_code == 1
    assert (report(result)["mended"]["left"], report(result)["mended"]["removed"]) == (1, 0)
    assert ("back" in stargate.vectors.rows) is (look == 4)


def test_an_empty_table_of_pages_does_not_empty_the_store(run: Run, stargate: Stargate) -> None:
    seed(stargate, pages=[], vectors=["a", "b"])
    result = run("--repair", "--yes")
    assert result.exit_code == 1
    assert "correct STARGATE_PAGES_TABLE" in result.stderr
    assert set(stargate.vectors.rows) == {"a", "b"}


def test_nothing_is_repaired_after_an_incomplete_scan(
    run: Run, stargate: Stargate, mock_kafka: MockKafka
) -> None:
    seed(stargate, pages=[f"p{n}" for n in range(30)], vectors=["gone"])
    broken = 'Stargate answered 400 to a read of gibsey.pages: {"description":"no"}'
    stargate.faults.status(400, b'{"description":"no"}', when=lambda r: "page-state" in r.query)
    result = run("--repair", "--yes", "--page-size", "10")
    assert (result.exit_code, broken in result.stderr) == (1, True), result.output
    assert sent(mock_kafka) == []
    assert "gone" in stargate.vectors.rows


def test_a_page_that_the_topic_does_not_accept_is_left(run: Run, stargate: Stargate) -> None:
    stargate.pages.seed([("huge", {"body": "x" * 2_000_000}), ("b", BODY)])
    result = run("--repair", "--yes")
    assert result.exit_code == 1
    assert "does not accept huge" in result.stdout
    assert "1 pages sent into cdc.pages, 0 vectors removed, 0 already right, 1 left" in (
        result.stdout
    )


def test_missing_vectors_are_reported_with_the_lag_of_the_stream(
    run: Run, stargate: Stargate, mock_kafka: MockKafka
) -> None:
    seed(stargate, pages=["a"], vectors=[])
    mock_kafka.produce("cdc.pages", "a", "{}")
    mock_kafka.flush()
    assert "The stream is 1 records behind" in run().stdout
    assert report(run("--json"))["lag"] == 1
