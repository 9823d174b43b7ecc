"""The doctor and the embedder: each problem is real."""

from __future__ import annotations

import json

from gibsey_embedder.doctor.embedder import PAGE, Limits
from gibsey_embedder.fakes.faults import Fault
from gibsey_embedder.fakes.message import Reply, Request
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.openai import OpenAI
from tests.gibsey_embedder.doctor.doctor_report import RunDoctor


def test_a_missing_model_is_reported_and_pulled_with_the_option(
    run_doctor: RunDoctor, ollama: Ollama
) -> None:
    ollama.remove("nomic-embed-text")
    run_doctor().assert_finding(
        "embedder", "bad", "no model", "ollama pull nomic-embed-text", "--pull"
    )
    assert "nomic-embed-text:latest" not in ollama.models
    pulled = run_doctor("--pull")
    pulled.assert_finding("embedder", "good", "was pulled")
    assert pulled.exit_code == 0


def test_a_pull_that_fails_is_reported(run_doctor: RunDoctor, ollama: Ollama) -> None:
    refusal = Reply(200, b'{"status":"pulling"}\n{"error":"file does not exist"}\n')
    ollama.faults.add(Fault("reply", reply=refusal, when=lambda r: r.path == "/api/pull"))
    report = run_doctor("--pull", EMBED_MODEL="nope")
    report.assert_finding(
        "embedder", "bad", "could not be pulled: file does not exist", "EMBED_MODEL"
    )


def test_an_embedder_that_is_down_is_reported(run_doctor: RunDoctor, ollama: Ollama) -> None:
    ollama.refuse()
    run_doctor().assert_finding("embedder", "bad", "cannot connect", "EMBED_URL")


def test_an_embedder_that_hangs_is_reported(run_checks: RunDoctor, ollama: Ollama) -> None:
    ollama.faults.add(Fault("hang", when=lambda request: request.method == "POST"))
    run_checks(limits=Limits(model_timeout_s=0.3)).assert_finding(
        "embedder", "bad", "did not respond within", "try again"
    )


def test_wrong_dimensions_are_reported(run_doctor: RunDoctor) -> None:
    with Ollama(dimensions=384) as small:
        report = run_doctor(EMBED_URL=small.url)
    report.assert_finding("embedder", "bad", "384 dimensions", "instead of 768", "EMBED_DIMENSIONS")


def test_a_short_context_is_reported(run_doctor: RunDoctor) -> None:
    with Ollama(context=512) as short:
        run_doctor(EMBED_URL=short.url).assert_finding(
            "embedder", "warning", "512 tokens", "num_ctx"
        )


def test_lost_capitals_are_bad_only_without_lower_case(run_doctor: RunDoctor) -> None:
    with Ollama(capitals_defect=True) as defect:
        run_doctor(EMBED_URL=defect.url).assert_finding(
            "embedder", "good", "look the same", "lower-cases pages"
        )
        bad = run_doctor(EMBED_URL=defect.url, EMBED_LOWERCASE="off")
    bad.assert_finding("embedder", "bad", "look the same", "EMBED_LOWERCASE=auto")


def test_a_slow_embedder_is_reported(run_checks: RunDoctor, ollama: Ollama) -> None:
    ollama.text_s = 0.2
    run_checks(limits=Limits(slow_page_s=0.1)).assert_finding(
        "embedder", "warning", "s per page", "GPU"
    )


def test_all_endpoints_are_checked_and_another_model_is_reported(
    run_doctor: RunDoctor, ollama: Ollama
) -> None:
    with Ollama(cheap=True) as other:
        report = run_doctor(EMBED_URL=f"{ollama.url},{other.url}")
        report.assert_finding(
            "embedder agreement", "bad", other.url, "other vectors", "ollama show"
        )
        other.refuse()
        run_doctor(EMBED_URL=f"{ollama.url},{other.url}").assert_finding(
            f"embedder {other.url}", "bad"
        )


def test_a_wrong_openai_key_is_reported(run_doctor: RunDoctor, fake_openai: OpenAI) -> None:
    at = {"EMBED_PROVIDER": "openai", "OPENAI_URL": fake_openai.url}
    run_doctor(OPENAI_API_KEY="sk-demo", **at).assert_finding(
        "embedder", "good", "text-embedding-3-small"
    )
    report = run_doctor(OPENAI_API_KEY="sk-s3cret", **at)
    report.assert_finding("embedder", "bad", "does not accept the key", "OPENAI_API_KEY")
    assert "s3cret" not in report.output


def test_a_fallback_that_cannot_take_over_is_reported(
    run_doctor: RunDoctor, fake_openai: OpenAI
) -> None:
    given = {"EMBED_FALLBACK": "openai", "OPENAI_URL": fake_openai.url}
    report = run_doctor(OPENAI_API_KEY="sk-wrong", **given)
    report.assert_finding("embedder", "bad", "does not accept the key")


def test_a_page_that_is_not_embedded_is_reported(
    run_doctor: RunDoctor, run_checks: RunDoctor, ollama: Ollama
) -> None:
    ordinary = PAGE[:40].encode()
    refusal = Reply(500, b'{"error":"out of memory"}')
    ollama.faults.add(Fault("reply", reply=refusal, when=lambda r: ordinary in r.body))
    run_doctor().assert_finding("embedder", "bad", "not embedded", "out of memory", "see its log")
    ollama.faults.clear()
    ollama.faults.add(Fault("hang", when=lambda r: ordinary in r.body))
    run_checks(limits=Limits(page_timeout_s=0.3)).assert_finding(
        "embedder", "bad", "not embedded", "GPU"
    )


def test_an_unknown_context_is_good(run_doctor: RunDoctor, ollama: Ollama) -> None:
    untold = json.dumps({"model_info": {"nomic-bert.embedding_length": 768}}).encode()
    ollama.faults.add(
        Fault("reply", reply=Reply(200, untold), when=lambda r: r.path == "/api/show")
    )
    run_doctor().assert_finding(f"embedder {ollama.url} context", "good", "2048 tokens are assumed")


def test_endpoints_that_agree_are_good(run_doctor: RunDoctor, ollama: Ollama) -> None:
    with Ollama() as other:
        report = run_doctor(EMBED_URL=f"{ollama.url},{other.url}")
    report.assert_finding("embedder agreement", "good", "2 endpoints")


def test_a_pull_from_an_embedder_that_is_down_is_reported(
    run_doctor: RunDoctor, ollama: Ollama
) -> None:
    ollama.refuse()
    run_doctor("--pull").assert_finding(
        f"embedder {ollama.url} pull", "bad", "cannot connect", "start the service"
    )


def test_openai_pulls_no_model(run_doctor: RunDoctor, fake_openai: OpenAI) -> None:
    at = {"EMBED_PROVIDER": "openai", "OPENAI_URL": fake_openai.url}
    report = run_doctor("--pull", OPENAI_API_KEY="sk-demo", **at)
    assert not [f for f in report.checks if f["check"].endswith("pull")]


def test_a_pull_sends_the_api_key(run_doctor: RunDoctor, ollama: Ollama) -> None:
    seen = []

    def note(request: Request) -> bool:
        seen.append((request.path, request.bearer()))
        return False

    ollama.faults.add(Fault("reply", when=note))
    ollama.remove("nomic-embed-text")
    run_doctor("--pull", EMBED_API_KEY="s3cret").assert_finding("embedder", "good", "was pulled")
    assert ("/api/pull", "s3cret") in seen
