"""The fake OpenAI has the documented limits."""

from __future__ import annotations

import httpx
import pytest

from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.openai import OpenAI

MODEL = "text-embedding-3-small"
KEY = {"Authorization": "Bearer sk-demo"}


def embed(server: OpenAI, given: object, **more: object) -> httpx.Response:
    order = {"model": MODEL, "input": given, "dimensions": 768, **more}
    return httpx.post(f"{server.openai_url}/embeddings", json=order, headers=KEY, timeout=60)


def test_vectors_are_out_of_order_with_their_index(fake_openai: OpenAI) -> None:
    texts = [f"text {n}" for n in range(10)]
    data = embed(fake_openai, texts).json()["data"]
    assert [item["index"] for item in data] != list(range(10))
    for item in data:
        assert item["embedding"] == fake_openai.expected_vector(texts[item["index"]])
        assert len(item["embedding"]) == 768


def test_the_vector_space_differs_from_ollamas(fake_openai: OpenAI) -> None:
    assert fake_openai.expected_vector("a page") != embed_text("a page")


def test_without_dimensions_the_vectors_have_the_models_size(fake_openai: OpenAI) -> None:
    order = {"model": MODEL, "input": "a"}
    response = httpx.post(f"{fake_openai.openai_url}/embeddings", json=order, headers=KEY)
    assert len(response.json()["data"][0]["embedding"]) == 1536


def test_a_wrong_key_or_model_is_reported(fake_openai: OpenAI) -> None:
    url = f"{fake_openai.openai_url}/embeddings"
    response = httpx.post(url, json={"model": MODEL, "input": "a"})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
    response = embed(fake_openai, "a", model="no")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    "given",
    [[], "", ["a", ""], ["a", None], ["a"] * 2049, "w " * 8193, ["w " * 8000] * 38],
    ids=["none", "empty", "one empty", "null", "2049", "long", "300,000 tokens"],
)
def test_input_beyond_the_limits_returns_400(fake_openai: OpenAI, given: object) -> None:
    response = embed(fake_openai, given)
    assert (response.status_code, response.json()["error"]["type"]) == (
        400,
        "invalid_request_error",
    )


def test_the_maximum_number_of_inputs_is_accepted(fake_openai: OpenAI) -> None:
    assert len(embed(fake_openai, ["a"] * 2048, dimensions=8).json()["data"]) == 2048


def test_a_rate_limit_reports_the_time_until_a_retry(fake_openai: OpenAI) -> None:
    fake_openai.limit(0.25, times=1)
    fake_openai.limit(2, times=1, header="retry-after")
    first, second, third = (embed(fake_openai, "a") for _ in range(3))
    assert (first.status_code, first.headers["retry-after-ms"]) == (429, "250")
    assert first.json()["error"]["code"] == "rate_limit_exceeded"
    assert second.headers["retry-after"] == "2"
    assert third.status_code == 200


def test_an_exhausted_quota_stays_until_it_is_cleared(fake_openai: OpenAI) -> None:
    fake_openai.exhaust()
    response = embed(fake_openai, "a")
    assert (response.status_code, response.json()["error"]["code"]) == (429, "insufficient_quota")
    fake_openai.faults.clear()
    assert embed(fake_openai, "a").status_code == 200
