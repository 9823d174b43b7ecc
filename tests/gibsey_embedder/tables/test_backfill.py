"""Backfills over fakes: what they send, where they continue, what they wait for.

That the stream embeds the pages again is in tests/flow/test_repair.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from gibsey_embedder.cli import app
from gibsey_embedder.fakes.kafka import MockKafka
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate
from gibsey_embedder.tables.backfill_position import FILE, Position, PositionFile
from gibsey_embedder.terminal.retry_policy import GaveUpError
from gibsey_embedder.topic.stream_lag import GroupLag

Run = Callable[..., Result]


@pytest.fixture
def run(
    stargate: Stargate, mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Run:
    """Run a backfill without a stream: it does not read the lag unless a test sets a limit."""
    monkeypatch.chdir(tmp_path)
    environment = {
        "STARGATE_URL": stargate.url,
        "STARGATE_AUTH_TOKEN": TOKEN,
        "KAFKA_BROKER": mock_kafka.broker,
        "KAFKA_OPTIONS": '{"fetch.wait.max.ms": 5}',
        "RECOVERY_DIR": str(tmp_path / "recovery"),
        "COLUMNS": "200",
    }

    def invoke(*arguments: str, **settings: str) -> Result:
        command = ["backfill", "--skew", "0", "--max-lag", "0", *arguments]
        return CliRunner().invoke(app, command, env=environment | settings)

    return invoke


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of the position."""
    return tmp_path / "recovery" / FILE


def seed(stargate: Stargate, count: int) -> list[str]:
    pages = [f"page {number:03}" for number in range(count)]
    stargate.pages.seed((page, {"body": f"text of {page}"}) for page in pages)
    return pages


def sent(kafka: MockKafka) -> list[tuple[str, int]]:
    """The pages in the topic, and the write time of each."""
    events = [orjson.loads(record.value or b"") for record in kafka.read("cdc.pages")]
    return sorted((e["after"]["page_id"]["value"], e["source"]["ts_us"]) for e in events)


def interrupted(run: Run, stargate: Stargate) -> None:
    """Run a backfill that ends at its third response."""
    stargate.faults.status(400, b"{}", when=lambda request: "%2B20%2F" in request.target)
    assert run("--page-size", "10").exit_code == 1
    stargate.faults.clear()


def test_all_pages_with_text_are_sent_with_one_time(
    run: Run, stargate: Stargate, mock_kafka: MockKafka, file: Path
) -> None:
    pages = seed(stargate, 25)
    stargate.pages.seed([("blank", {"body": "\n"}), ("null", {"body": None})])
    result = run("--page-size", "10")
    assert (result.exit_code, result.stdout) == (0, "25 sent, 2 without text, 0 not accepted.\n")
    found = sent(mock_kafka)
    assert [page for page, _ in found] == pages
    assert len({written_us for _, written_us in found}) == 1
    assert not file.exists()


def test_a_dry_run_counts_and_sends_nothing(
    run: Run, stargate: Stargate, mock_kafka: MockKafka, file: Path
) -> None:
    seed(stargate, 25)
    stargate.pages.seed([("blank", {"body": ""})])
    result = run("--dry-run")
    assert (result.exit_code, result.stdout) == (0, "25 to send, 1 without text, 0 not accepted.\n")
    assert sent(mock_kafka) == []
    assert not file.exists()


def test_a_stopped_backfill_continues_with_its_first_write_time(
    run: Run, stargate: Stargate, mock_kafka: MockKafka, file: Path
) -> None:
    pages = seed(stargate, 35)
    interrupted(run, stargate)
    assert orjson.loads(file.read_bytes())["sent"] == 20
    result = run("--page-size", "10")
    assert result.stdout == "35 sent, 0 without text, 0 not accepted.\n"
    assert "20 pages were sent" in result.stderr
    assert [page for page, _ in sent(mock_kafka)] == pages
    assert len({written_us for _, written_us in sent(mock_kafka)}) == 1
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (("--restart",), {}, ""),
        ((), {"EMBED_PREFIX": "search_document: "}, "had other settings: starting again"),
        ((), {"EMBED_MODEL": "another"}, "had other settings: starting again"),
    ],
)
def test_a_backfill_with_another_purpose_starts_again(
    run: Run,
    stargate: Stargate,
    mock_kafka: MockKafka,
    arguments: tuple[str, ...],
    settings: dict[str, str],
    message: str,
) -> None:
    seed(stargate, 35)
    interrupted(run, stargate)
    result = run(*arguments, **settings)
    assert result.stdout == "35 sent, 0 without text, 0 not accepted.\n"
    assert message in result.stderr
    assert len(sent(mock_kafka)) == 55
    assert len({written_us for _, written_us in sent(mock_kafka)}) == 2


def test_a_rejected_position_starts_again_with_the_same_write_time(
    run: Run, stargate: Stargate, mock_kafka: MockKafka, file: Path
) -> None:
    """The stream recognises a repeated page by its time, and embeds nothing twice."""
    seed(stargate, 35)
    interrupted(run, stargate)
    file.write_bytes(orjson.dumps(orjson.loads(file.read_bytes()) | {"state": "of no use"}))
    result = run()
    assert "Stargate no longer accepts the position" in result.stderr
    assert result.stdout == "35 sent, 0 without text, 0 not accepted.\n"
    assert len({written_us for _, written_us in sent(mock_kafka)}) == 1


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"purpose": 1}', b"\xff"])
def test_an_unreadable_position_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    assert PositionFile(tmp_path / "p").load() is None


def test_a_position_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    file = PositionFile(tmp_path / "new" / "p")
    assert file.load() is None
    file.save(position := Position("x", 5, "a+b/=", 1, 2, 3))
    assert file.load() == position
    file.save(Position("y", 6))
    assert file.load() == Position("y", 6)
    file.remove()
    file.remove()
    assert file.load() is None


def test_a_position_that_cannot_be_saved_ends_the_backfill_before_it_sends(
    run: Run, stargate: Stargate, mock_kafka: MockKafka, tmp_path: Path
) -> None:
    seed(stargate, 5)
    (tmp_path / "a file").touch()
    result = run("--position", str(tmp_path / "a file" / "p"))
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
    assert sent(mock_kafka) == []


def test_nothing_is_read_or_sent_while_the_stream_is_too_far_behind(
    run: Run, stargate: Stargate, mock_kafka: MockKafka, monkeypatch: pytest.MonkeyPatch
) -> None:

    seed(stargate, 30)
    seen: list[tuple[int, int]] = []

    async def lag(_: GroupLag) -> int:
        asked = stargate.stats.requests
        seen.append((asked, len(mock_kafka.read("cdc.pages"))))
        if len(seen) == 5:
            raise GaveUpError("seen enough")
        return 95

    monkeypatch.setattr(GroupLag, "__call__", lag)
    assert run("--max-lag", "100", "--page-size", "10").exit_code == 1
    assert seen == [(2, 0)] * 5, "the backfill reads the columns of both tables, and no rows"


def test_pages_that_the_topic_does_not_accept_are_named_and_exit_1(
    run: Run, stargate: Stargate
) -> None:
    seed(stargate, 3)
    stargate.pages.seed([("huge", {"body": "x" * 2_000_000})])
    result = run()
    assert (result.exit_code, result.stdout) == (1, "3 sent, 0 without text, 1 not accepted.\n")
    assert "does not accept huge" in result.stderr
