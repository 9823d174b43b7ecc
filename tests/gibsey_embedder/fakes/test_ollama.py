"""The fake Ollama responds like the real versions 0.13 and 0.24."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gibsey_embedder.fakes.ngrams import cheap_vector, embed_text
from gibsey_embedder.fakes.ollama import Ollama
from tests.eventually import eventually

MODEL = "nomic-embed-text"


@pytest.fixture(params=["0.13", "0.24"])
def versioned(request: pytest.FixtureRequest) -> Iterator[Ollama]:
    with Ollama(version=request.param) as fake:
        yield fake


def embed(ollama: Ollama, given: object, **more: object) -> httpx.Response:
    return httpx.post(f"{ollama.url}/api/embed", json={"model": MODEL, "input": given, **more})


def legacy(ollama: Ollama, prompt: str) -> httpx.Response:
    return httpx.post(f"{ollama.url}/api/embeddings", json={"model": MODEL, "prompt": prompt})


def length(vector: list[float]) -> float:
    return math.sqrt(math.fsum(x * x for x in vector))


def test_a_batch_returns_the_unit_vectors_of_single_requests_in_order(ollama: Ollama) -> None:
    texts = ["json decoding", "a thread pool", "?!", " "]
    response = embed(ollama, texts).json()
    assert response["model"] == MODEL
    assert {"total_duration", "load_duration", "prompt_eval_count"} <= response.keys()
    assert response["embeddings"] == [embed_text(text) for text in texts]
    assert response["embeddings"] == [embed(ollama, text).json()["embeddings"][0] for text in texts]
    assert all(len(v) == 768 and abs(length(v) - 1) < 1e-6 for v in response["embeddings"])
    assert list(ollama.texts or ()) == texts * 2


def test_the_legacy_endpoint_returns_longer_vectors_in_the_same_direction(ollama: Ollama) -> None:
    vector = legacy(ollama, "a page").json()["embedding"]
    assert length(vector) == pytest.approx(22.5, abs=1e-3)
    assert [x / length(vector) for x in vector] == pytest.approx(embed_text("a page"), abs=1e-7)


@pytest.mark.parametrize("given", ["", [], None])
def test_no_input_returns_no_embeddings(ollama: Ollama, given: object) -> None:
    response = embed(ollama, given)
    assert (response.status_code, response.json()["embeddings"]) == (200, [])
    assert legacy(ollama, "").json() == {"embedding": []}


def test_a_null_among_the_texts_is_an_invalid_input_type(ollama: Ollama) -> None:
    response = embed(ollama, ["a", None])
    assert (response.status_code, response.json()) == (400, {"error": "invalid input type"})


def test_dimensions_shorten_vectors_but_do_not_extend_them(ollama: Ollama) -> None:
    cut = embed(ollama, "one two three four", dimensions=256).json()["embeddings"][0]
    assert (len(cut), length(cut)) == (256, pytest.approx(1.0, abs=1e-6))
    assert len(embed(ollama, "one", dimensions=1024).json()["embeddings"][0]) == 768


def test_long_texts_are_truncated_or_rejected_on_request(versioned: Ollama) -> None:
    words = " ".join(f"w{n}" for n in range(3000))
    response = embed(versioned, words)
    kept = versioned.model.truncate(words)
    assert response.json()["embeddings"][0] == embed_text(kept) != embed_text(words)
    rejected = embed(versioned, ["short", words], truncate=False)
    text = {
        "0.13": "input exceeds maximum context length",
        "0.24": "the input length exceeds the context length",
    }[versioned.version]
    assert (rejected.status_code, rejected.json()) == (400, {"error": text})
    old = legacy(versioned, words)
    if versioned.version == "0.13":
        assert old.status_code == 200
    else:
        assert (old.status_code, old.json()) == (500, {"error": text})


def test_a_model_is_missing_until_it_is_pulled(ollama: Ollama) -> None:
    order = {"model": "nope", "input": "a"}
    response = httpx.post(f"{ollama.url}/api/embed", json=order)
    assert response.status_code == 404
    assert response.json() == {"error": 'model "nope" not found, try pulling it first'}
    httpx.post(f"{ollama.url}/api/pull", json={"model": "nope"})
    assert httpx.post(f"{ollama.url}/api/embed", json=order).status_code == 200
    ollama.remove("nope")
    assert httpx.post(f"{ollama.url}/api/embed", json=order).status_code == 404


def test_show_tags_and_version_describe_the_model(ollama: Ollama) -> None:
    shown = httpx.post(f"{ollama.url}/api/show", json={"model": MODEL}).json()
    assert shown["model_info"]["nomic-bert.embedding_length"] == 768
    assert shown["model_info"]["nomic-bert.context_length"] == 2048
    assert shown["capabilities"] == ["embedding"]
    tags = httpx.get(f"{ollama.url}/api/tags").json()
    assert [model["name"] for model in tags["models"]] == [f"{MODEL}:latest"]
    assert "version" in httpx.get(f"{ollama.url}/api/version").json()


def test_an_old_server_has_no_embed_endpoint() -> None:
    with Ollama(legacy_only=True) as ollama:
        response = embed(ollama, "a")
        assert (response.status_code, response.text) == (404, "404 page not found")
        assert legacy(ollama, "a").status_code == 200


@pytest.mark.parametrize(
    ("keep_alive", "status"), [(-1, 200), ("-1s", 200), ("10m", 200), ("-1", 400)]
)
def test_keep_alive_needs_a_unit(ollama: Ollama, keep_alive: object, status: int) -> None:
    assert embed(ollama, "a", keep_alive=keep_alive).status_code == status


def test_several_servers_behind_one_address_compute_concurrently() -> None:
    with Ollama(request_s=0.5, servers=4) as ollama, ThreadPoolExecutor(4) as pool:
        began = time.monotonic()
        list(pool.map(lambda text: embed(ollama, text), "abcd"))
        assert 0.5 <= time.monotonic() - began < 1.5
        assert ollama.stats.busy_s == pytest.approx(2.0)


def test_a_killed_runner_fails_requests_in_flight_and_the_next_request_succeeds(
    versioned: Ollama,
) -> None:
    versioned.text_s = 5.0
    with ThreadPoolExecutor() as pool:
        flying = [pool.submit(embed, versioned, "a") for _ in range(2)]
        eventually(lambda: versioned.stats.in_flight == 2)
        versioned.kill_runner(recover_s=0.1)
        responses = [future.result() for future in flying]
    wanted = 500 if versioned.version == "0.13" else 400
    assert [response.status_code for response in responses] == [wanted] * 2
    texts = {response.json()["error"] for response in responses}
    assert any(text.endswith("EOF") for text in texts)
    assert any("runner process no longer running" in text for text in texts)
    versioned.text_s = 0.0
    began = time.monotonic()
    assert embed(versioned, "a").status_code == 200
    assert time.monotonic() - began >= 0.1


def test_a_full_queue_returns_503() -> None:
    with Ollama(queue=0, request_s=2.0) as ollama:
        first = threading.Thread(target=embed, args=(ollama, "a"))
        first.start()
        eventually(lambda: ollama.stats.in_flight == 1)
        response = embed(ollama, "b")
        first.join()
    assert response.status_code == 503
    assert "maximum pending requests exceeded" in response.json()["error"]


def test_words_with_capitals_become_unknown_with_the_defect() -> None:
    with Ollama(capitals_defect=True) as ollama:
        paris, london, small = embed(ollama, ["Paris", "London", "paris"]).json()["embeddings"]
        assert paris == london != small


def test_the_server_requires_its_api_key() -> None:
    with Ollama(api_key="k") as ollama:
        assert embed(ollama, "a").status_code == 401
        order = {"model": MODEL, "input": "a"}
        headers = {"Authorization": "Bearer k"}
        response = httpx.post(f"{ollama.url}/api/embed", json=order, headers=headers)
        assert response.status_code == 200


def test_nan_returns_an_error(versioned: Ollama) -> None:
    versioned.add_quirk("nan", "poison")
    response = embed(versioned, ["good", "poison"])
    assert response.status_code in (400, 500)
    assert "NaN" in response.json()["error"]
    assert embed(versioned, "good").status_code == 200


def test_quirks_apply_to_single_texts(ollama: Ollama) -> None:
    for quirk in ("zero", "short", "nan_literal", "infinity", "unnormalised"):
        ollama.add_quirk(quirk, quirk)
    ollama.add_quirk("few", "few", times=1)
    ollama.add_quirk("many", "many")
    ollama.add_quirk("rejected", "refused")
    zero, short, long = embed(ollama, ["zero", "short", "unnormalised"]).json()["embeddings"]
    assert (set(zero), len(zero), len(short)) == ({0}, 768, 767)
    assert length(long) == pytest.approx(math.e, abs=1e-5)
    assert '"embeddings":[[NaN,' in embed(ollama, "nan_literal").text
    assert '"embeddings":[[Infinity,' in embed(ollama, "infinity").text
    assert len(embed(ollama, ["few", "b"]).json()["embeddings"]) == 1
    assert len(embed(ollama, ["few", "b"]).json()["embeddings"]) == 2
    assert len(embed(ollama, ["many", "b"]).json()["embeddings"]) == 3
    assert embed(ollama, ["refused", "b"]).status_code == 400
    ollama.clear_quirks()
    assert embed(ollama, ["zero"]).json()["embeddings"] == [embed_text("zero")]


def test_cheap_vectors_differ_by_text_and_have_unit_length() -> None:
    with Ollama(cheap=True) as ollama:
        a, b = embed(ollama, ["a", "b"]).json()["embeddings"]
    assert a != b
    assert (len(a), length(a)) == (768, pytest.approx(1.0, abs=1e-6))
    assert cheap_vector("a") == cheap_vector("a")
