"""What the doctor says of the embedders; each fault is really there."""

from __future__ import annotations

import json

import pytest

from gibsey_embedder.doctor import embedder
from gibsey_embedder.fakes.faults import Fault
from gibsey_embedder.fakes.message import Reply, Request
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.openai import OpenAI
from tests.gibsey_embedder.doctor.examination import Examine


def test_a_missing_model_is_told_and_pulled_when_allowed(examine: Examine, ollama: Ollama) -> None:
    ollama.remove("nomic-embed-text")
    examine().told("embedder", "bad", "no model", "ollama pull nomic-embed-text", "--pull")
    assert "nomic-embed-text:latest" not in ollama.models
    pulled = examine("--pull")
    pulled.told("embedder", "good", "was pulled")
    assert pulled.code == 0


def test_a_pull_that_fails_is_told(examine: Examine, ollama: Ollama) -> None:
    refusal = Reply(200, b'{"status":"pulling"}\n{"error":"file does not exist"}\n')
    ollama.faults.add(Fault("reply", reply=refusal, when=lambda r: r.path == "/api/pull"))
    examined = examine("--pull", EMBED_MODEL="nope")
    examined.told("embedder", "bad", "could not be pulled: file does not exist", "EMBED_MODEL")


def test_an_embedder_that_is_down_is_told(examine: Examine, ollama: Ollama) -> None:
    ollama.refuse()
    examine().told("embedder", "bad", "cannot connect", "EMBED_URL")


def test_an_embedder_that_hangs_is_told(
    examine: Examine, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "FACTS_S", 0.3)
    ollama.faults.add(Fault("hang", when=lambda request: request.method == "POST"))
    examine().told("embedder", "bad", "did not answer within", "try again")


def test_wrong_dimensions_are_told(examine: Examine) -> None:
    with Ollama(dimensions=384) as small:
        examined = examine(EMBED_URL=small.url)
    examined.told("embedder", "bad", "384 dimensions", "instead of 768", "EMBED_DIMENSIONS")


def test_a_short_context_is_told(examine: Examine) -> None:
    with Ollama(context=512) as short:
        examine(EMBED_URL=short.url).told("embedder", "warning", "512 tokens", "num_ctx")


def test_lost_capitals_are_bad_only_where_nothing_mends_them(examine: Examine) -> None:
    with Ollama(capitals_defect=True) as defect:
        examine(EMBED_URL=defect.url).told("embedder", "good", "look the same", "lower-cased")
        bad = examine(EMBED_URL=defect.url, EMBED_LOWERCASE="off")
    bad.told("embedder", "bad", "look the same", "EMBED_LOWERCASE=auto")


def test_a_slow_embedder_is_told(
    examine: Examine, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedder, "SLOW_S", 0.1)
    ollama.text_s = 0.2
    examine().told("embedder", "warning", "s a page", "GPU")


def test_each_endpoint_is_asked_and_one_of_another_model_is_told(
    examine: Examine, ollama: Ollama
) -> None:
    with Ollama(cheap=True) as other:
        examined = examine(EMBED_URL=f"{ollama.url},{other.url}")
        examined.told("embedder agreement", "bad", other.url, "other vectors", "ollama show")
        other.refuse()
        examine(EMBED_URL=f"{ollama.url},{other.url}").told(f"embedder {other.url}", "bad")


def test_a_wrong_openai_key_is_told(examine: Examine, fake_openai: OpenAI) -> None:
    at = {"EMBED_PROVIDER": "openai", "OPENAI_URL": fake_openai.url}
    examine(OPENAI_API_KEY="sk-demo", **at).told("embedder", "good", "text-embedding-3-small")
    examined = examine(OPENAI_API_KEY="sk-s3cret", **at)
    examined.told("embedder", "bad", "does not accept the key", "OPENAI_API_KEY")
    assert "s3cret" not in examined.output


def test_a_fallback_that_cannot_take_over_is_told(examine: Examine, fake_openai: OpenAI) -> None:
    given = {"EMBED_FALLBACK": "openai", "OPENAI_URL": fake_openai.url}
    examined = examine(OPENAI_API_KEY="sk-wrong", **given)
    examined.told("embedder", "bad", "does not accept the key")


def test_a_page_that_is_not_embedded_is_told(
    examine: Examine, ollama: Ollama, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = embedder.PAGE[:40].encode()
    refusal = Reply(500, b'{"error":"out of memory"}')
    ollama.faults.add(Fault("reply", reply=refusal, when=lambda r: ordinary in r.body))
    examine().told("embedder", "bad", "not embedded", "out of memory", "look at its log")
    ollama.faults.clear()
    monkeypatch.setattr(embedder, "SAMPLE_S", 0.3)
    ollama.faults.add(Fault("hang", when=lambda r: ordinary in r.body))
    examine().told("embedder", "bad", "not embedded", "GPU")


def test_a_context_that_is_not_told_is_no_fault(examine: Examine, ollama: Ollama) -> None:
    untold = json.dumps({"model_info": {"nomic-bert.embedding_length": 768}}).encode()
    ollama.faults.add(
        Fault("reply", reply=Reply(200, untold), when=lambda r: r.path == "/api/show")
    )
    examine().told(f"embedder {ollama.url} context", "good", "2048 tokens are assumed")


def test_endpoints_that_agree_are_good(examine: Examine, ollama: Ollama) -> None:
    with Ollama() as other:
        examined = examine(EMBED_URL=f"{ollama.url},{other.url}")
    examined.told("embedder agreement", "good", "2 endpoints")


def test_a_pull_from_an_embedder_that_is_away_is_told(examine: Examine, ollama: Ollama) -> None:
    ollama.refuse()
    examine("--pull").told(f"embedder {ollama.url} pull", "bad", "cannot connect", "start it")


def test_nothing_is_pulled_where_openai_embeds(examine: Examine, fake_openai: OpenAI) -> None:
    at = {"EMBED_PROVIDER": "openai", "OPENAI_URL": fake_openai.url}
    examined = examine("--pull", OPENAI_API_KEY="sk-demo", **at)
    assert not [f for f in examined.checks if f["check"].endswith("pull")]


def test_a_pull_logs_in_where_the_server_wants_that(examine: Examine, ollama: Ollama) -> None:
    seen = []

    def note(request: Request) -> bool:
        seen.append((request.path, request.bearer()))
        return False

    ollama.faults.add(Fault("reply", when=note))
    ollama.remove("nomic-embed-text")
    examine("--pull", EMBED_API_KEY="s3cret").told("embedder", "good", "was pulled")
    assert ("/api/pull", "s3cret") in seen
