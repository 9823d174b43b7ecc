"""EMBED_FALLBACK=openai: an outage, its vectors, and their replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from gibsey_embedder.cli import app
from gibsey_embedder.fakes.openai import API_KEY, OpenAI
from tests.eventually import eventually
from tests.flow.openai_vectors import of_openai
from tests.flow.stream import DONE_S, Stream

Replay = Callable[[], str]
Settings = dict[str, Any]


@pytest.fixture
def fallback(fake_openai: OpenAI) -> Settings:
    return {
        "EMBED_FALLBACK": "openai",
        "EMBED_FALLBACK_AFTER": "0.3",
        "OPENAI_URL": fake_openai.openai_url,
        "OPENAI_API_KEY": API_KEY,
    }


@pytest.fixture
def replay(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> Replay:
    """Replay the dead letters `other-space`."""
    monkeypatch.setenv("COLUMNS", "200")

    def run() -> str:
        arguments = ["replay", "--reason", "other-space", "--yes"]
        done = CliRunner().invoke(app, arguments, env=stream.settings())
        assert done.exit_code == 0, done.output
        return done.output

    return run


def wait_for_fallback(stream: Stream, openai: OpenAI, pages: set[str]) -> None:
    """Wait until exactly these pages have a vector of the fallback and a dead letter."""
    eventually(lambda: of_openai(stream, openai) == pages, DONE_S)
    stream.wait_dead_letters(len(pages))
    assert {dead_letter.headers["reason"] for dead_letter in stream.dead_letters()} == {
        b"other-space"
    }


def named(start: int, count: int) -> set[str]:
    return {f"page {n}" for n in range(start, start + count)}


def test_the_fallback_bridges_an_outage_and_a_replay_embeds_its_pages_again(
    stream: Stream, fake_openai: OpenAI, fallback: Settings, replay: Replay
) -> None:
    vectors = stream.stargate.vectors
    vectors.columns["model"] = "text"
    worker = stream.start(2, STARGATE_MODEL_COLUMN="model", **fallback)
    stream.feed(50)
    stream.wait_complete()
    stream.ollama.refuse()
    stream.feed(100, start=100)
    wait_for_fallback(stream, fake_openai, named(100, 100))
    assert all(stream.rag.vector(page) for page in named(100, 100))
    assert {vectors.text(page, "model") for page in named(100, 100)} == {"text-embedding-3-small"}
    state = worker.status()["state"]
    assert (state["level"], state["ready"]) == ("fallback", True)
    assert "the embedder is unavailable (cannot connect" in state["text"].lower()
    assert not worker.stalled()
    eventually(lambda: worker.metric("gibsey_other_space_pages") == 100, DONE_S)
    assert worker.metric("gibsey_fallback_at_work") == 1
    stream.wait_committed()

    stream.ollama.accept()
    worker.wait_for(r"the embedder is available again.*pages=100.*replay --reason other-space")
    stream.write("page 100", "changed since by the embedder itself")
    stream.feed(20, start=300)
    eventually(lambda: worker.metric("gibsey_other_space_pages") == 99, DONE_S)
    assert fake_openai.stats.items == 101  # the pages and the canary
    assert "99 to send" in replay()
    stream.wait_complete()
    eventually(lambda: worker.metric("gibsey_other_space_pages") == 0, DONE_S)
    assert {vectors.text(page, "model") for page in stream.texts} == {"nomic-embed-text"}
    assert "0 to send" in replay()
    assert len(stream.dead_letters()) == 100
    stream.wait_committed()
    worker.stop()


@pytest.mark.parametrize("store", [True, False])
def test_a_kill_during_the_fallback_loses_neither_a_page_nor_a_dead_letter(
    stream: Stream, fake_openai: OpenAI, fallback: Settings, replay: Replay, store: bool
) -> None:
    """Ollama is down from the start, so the fallback does not know its context."""
    stream.ollama.refuse()
    fake_openai.text_s = 0.005
    stream.feed(200)
    for rows in (30, 90):
        worker = stream.start(store=store, **fallback)
        stream.wait_rows(rows)
        worker.kill()
    worker = stream.start(store=store, **fallback)
    eventually(lambda: of_openai(stream, fake_openai) == named(0, 200), DONE_S)
    stream.wait_committed()
    origins = {dead_letter.headers["origin"] for dead_letter in stream.dead_letters()}
    assert len(origins) == 200
    if store:
        # the gauge may vary after two kills; the dead letters are exact
        eventually(lambda: worker.metric("gibsey_other_space_pages") == 200, DONE_S)
    stream.ollama.accept()
    worker.wait_for("available again: the fallback stops")
    assert "200 to send" in replay()
    stream.wait_complete()
    worker.stop()


def test_a_cluster_settles_the_pages_of_its_fallback_once(
    stream: Stream, fake_openai: OpenAI, fallback: Settings, replay: Replay
) -> None:
    stream.ollama.refuse()
    stream.feed(100)
    workers = stream.start_cluster(2, 2, **fallback)
    wait_for_fallback(stream, fake_openai, named(0, 100))
    stream.ollama.accept()
    for worker in workers:
        worker.wait_for("available again: the fallback stops")
    replay()
    stream.wait_complete()
    assert len(stream.dead_letters()) == 100
    for worker in workers:
        worker.signal()
    assert [worker.wait() for worker in workers] == [0, 0]


def test_a_fallback_without_credit_is_reported_and_nothing_is_lost(
    stream: Stream, fake_openai: OpenAI, fallback: Settings
) -> None:
    fake_openai.exhaust()
    stream.ollama.refuse()
    worker = stream.start(**fallback)
    stream.feed(50)
    worker.wait_for(
        r"waiting +service=embedder reason=\"cannot connect to http://127.*its fallback:"
        r".*exceeded your current quota.*remedy=\"add credit.*OPENAI_API_KEY"
    )
    assert not stream.stargate.vectors.rows
    stream.ollama.accept()
    stream.wait_complete()
    eventually(lambda: not worker.stalled(), DONE_S)
    assert not stream.dead_letters()
    assert API_KEY not in worker.log
    worker.stop()


def test_a_fallback_with_a_wrong_key_is_reported_without_the_key(
    stream: Stream, fake_openai: OpenAI, fallback: Settings
) -> None:
    stream.ollama.refuse()
    worker = stream.start(**{**fallback, "OPENAI_API_KEY": "sk-s3cret"})
    stream.feed(5)
    worker.wait_for(r"its fallback: .*does not accept the key.*remedy=.*OPENAI_API_KEY")
    assert "s3cret" not in worker.log + str(worker.status())
    stream.ollama.accept()
    stream.wait_complete()
    assert not stream.dead_letters()
