from __future__ import annotations

import math

import orjson
import pytest

from connectors.core.errors import ConfigurationError, RejectedError, TransientError
from connectors.embedders.base import EmbedderClient, ModelInfo, TextTooLongError
from connectors.embedders.openai.client import CONTEXT_TOKENS, MAX_TEXTS, OpenAIClient
from connectors.embedders.openai.urls import endpoint_of
from connectors.http.client import HttpClient
from gibsey_embedder.fakes.message import Reply, Request, json_reply
from gibsey_embedder.fakes.model import EmbeddingModel, Quirk
from gibsey_embedder.fakes.server import FakeServer
from tests.connectors.http.clients import using, vectors_of

MODEL = "text-embedding-3-small"
KEY = "sk-proj-0123456789"


class EndpointPool(FakeServer):
    """Keeps each request, and can return vectors in any order."""

    def __init__(self, *, dimensions: int | None = None, backwards: bool = True) -> None:
        super().__init__()
        self.model = EmbeddingModel(768, 8192)
        self.dimensions, self.backwards = dimensions, backwards
        self.requests: list[Request] = []

    async def reply_to(self, request: Request) -> Reply:
        self.requests.append(request)
        order = orjson.loads(request.body)
        size = self.dimensions or order["dimensions"]
        vectors = [orjson.loads(vector) for vector in self.model.encode(order["input"])]
        rows = [
            {"object": "embedding", "index": place, "embedding": (vector * 3)[:size]}
            for place, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        data = rows[::-1] if self.backwards else rows
        return json_reply({"object": "list", "data": data, "model": MODEL, "usage": usage})

    def orders(self) -> list[dict]:
        return [orjson.loads(request.body) for request in self.requests]

    def complain(self, status: int, message: str, headers=None, times=None, **other) -> None:
        body = orjson.dumps({"error": {"message": message, **other}})
        self.faults.status(status, body, headers, times=times)


@pytest.fixture
def server():
    with EndpointPool() as server:
        yield server


def client_of(server: FakeServer, key: str | None = KEY):
    return lambda http: OpenAIClient(http, server.url, key, MODEL, 768)


@pytest.mark.parametrize(
    ("given", "endpoint"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1/embeddings"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1/embeddings"),
        ("https://api.openai.com/v1/embeddings", "https://api.openai.com/v1/embeddings"),
        ("http://vllm:8000/prefix", "http://vllm:8000/prefix/v1/embeddings"),
        ("http://other:8000/api/v3", "http://other:8000/api/v3/embeddings"),
    ],
)
def test_the_endpoint_is_found_from_any_url_that_people_give(given, endpoint):
    assert endpoint_of(given) == endpoint


def test_the_default_url_is_openai_s_own_and_no_key_is_shown():
    client: EmbedderClient = OpenAIClient(HttpClient(), "", KEY, MODEL, 768)
    assert client.name == "https://api.openai.com:443"
    assert KEY not in repr(client)


def test_768_numbers_of_unit_length_come_back_by_index_and_the_size_is_asked_for(server):
    texts = [f"page {n}" for n in range(9)]
    together = vectors_of(client_of(server), texts)
    alone = [vectors_of(client_of(server), [text])[0] for text in texts]
    assert together == alone
    assert [len(vector) for vector in together] == [768] * 9
    assert [math.hypot(*vector) for vector in together] == pytest.approx([1.0] * 9, abs=1e-6)
    assert server.orders()[0] == {
        "model": MODEL,
        "input": texts,
        "dimensions": 768,
        "encoding_format": "float",
    }
    assert server.requests[0].path == "/v1/embeddings"
    assert server.requests[0].bearer() == KEY


def test_no_request_exceeds_the_texts_or_the_tokens_that_are_allowed(server):
    few_long = ["four " * 3000] * 45  # about 3,000 tokens each
    assert len(vectors_of(client_of(server), few_long, timeout_s=60)) == 45
    many_short = [str(n) for n in range(MAX_TEXTS + 2)]
    assert len(vectors_of(client_of(server), many_short, timeout_s=60)) == MAX_TEXTS + 2
    sizes = [len(order["input"]) for order in server.orders()]
    assert max(sizes) == MAX_TEXTS
    assert sizes[-2:] == [MAX_TEXTS, 2]
    assert len(sizes) > 3  # the long ones did not go together


def test_indexes_that_are_no_order_are_not_guessed_at(server):
    row = {"index": 0, "embedding": [1.0] * 768}
    for rows in ([row, row], [row, row | {"index": 7}], [row, row | {"index": "1"}]):
        server.faults.status(200, orjson.dumps({"data": rows}), times=1)
        with pytest.raises(TransientError, match="indexes"):
            vectors_of(client_of(server), ["a", "b"])


def test_vectors_without_indexes_are_used_in_their_order(server):
    rows = [{"embedding": [1.0] + [0.0] * 767}, {"embedding": [0.0] * 767 + [1.0]}]
    server.faults.status(200, orjson.dumps({"data": rows}))
    first, second = vectors_of(client_of(server), ["a", "b"])
    assert (first[0], second[-1]) == (1.0, 1.0)


def test_a_server_that_ignores_the_requested_dimensions_is_a_configuration_error():
    with (
        EndpointPool(dimensions=1536) as server,
        pytest.raises(ConfigurationError, match="1536 dimensions") as caught,
    ):
        vectors_of(client_of(server), ["a", "b"])
    assert "OPENAI_MODEL" in caught.value.remedy


@pytest.mark.parametrize("quirk", ["zero"])
def test_an_invalid_vector_does_not_affect_the_valid_ones(server, quirk: Quirk):
    server.model.add_quirk(quirk, "bad", None)
    good, bad = vectors_of(client_of(server), ["good", "bad"])
    assert (len(good), bad) == (768, None)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "20"}, 20),
        ({"Retry-After": "20", "retry-after-ms": "1500"}, 1.5),
        ({}, None),
    ],
)
def test_a_rate_limit_is_transient_and_keeps_its_retry_after(server, headers, wait_s):
    server.complain(
        429, "Rate limit reached for requests", headers, type="requests", code="rate_limit_exceeded"
    )
    with pytest.raises(TransientError, match="Rate limit") as caught:
        vectors_of(client_of(server), ["a"])
    assert not isinstance(caught.value, ConfigurationError)
    assert caught.value.retry_after_s == wait_s


def test_an_account_without_credit_is_a_configuration_error_with_a_long_pause(server):
    error_text = "You exceeded your current quota, please check your plan and billing details."
    for kind in ({"code": "insufficient_quota"}, {"type": "insufficient_quota", "code": None}):
        server.complain(429, error_text, {"Retry-After": "1"}, times=1, **kind)
        with pytest.raises(ConfigurationError, match="quota") as caught:
            vectors_of(client_of(server), ["a"])
        assert "credit" in caught.value.remedy
        assert caught.value.retry_after_s == 60


def test_the_error_of_a_rejected_key_names_its_setting_and_does_not_quote_the_key(server):
    quoted = f"Incorrect API key provided: {KEY[:8]}***6789. You can find your API key at …"
    server.complain(401, quoted, type="invalid_request_error", code="invalid_api_key")
    with pytest.raises(ConfigurationError) as caught:
        vectors_of(client_of(server), ["a"])
    assert "OPENAI_API_KEY" in caught.value.remedy
    assert "sk-" not in caught.value.detail + caught.value.remedy


def test_a_key_that_openai_quotes_is_redacted(server):
    server.complain(500, f"upstream said no to {KEY}")
    with pytest.raises(TransientError, match=r"no to \*\*\*"):
        vectors_of(client_of(server), ["a"])


@pytest.mark.parametrize("status", [403, 404])
def test_the_error_of_a_missing_or_forbidden_model_names_its_setting(server, status):
    error_text = f"The model `{MODEL}` does not exist or you do not have access to it."
    server.complain(status, error_text, type="invalid_request_error", code="model_not_found")
    with pytest.raises(ConfigurationError, match="does not exist") as caught:
        vectors_of(client_of(server), ["a"])
    assert "OPENAI_MODEL" in caught.value.remedy


def test_the_error_of_a_model_with_fixed_dimensions_names_its_setting(server):
    error_text = "This model does not support specifying dimensions."
    server.complain(400, error_text, type="invalid_request_error", param=None, code=None)
    with pytest.raises(ConfigurationError) as caught:
        vectors_of(client_of(server), ["a"])
    assert "OPENAI_MODEL" in caught.value.remedy


@pytest.mark.parametrize("response", [(404, "Invalid URL (POST /v1/embeddings)"), (302, "")])
def test_the_error_of_an_address_without_embeddings_names_its_setting(server, response):
    server.complain(*response, type="invalid_request_error")
    with pytest.raises(ConfigurationError) as caught:
        vectors_of(client_of(server), ["a"])
    assert "OPENAI_URL" in caught.value.remedy


def contains(text: bytes):
    return lambda request: text in request.body


LONG = (
    "This model's maximum context length is 8192 tokens, however you requested 9001 tokens (9001 "
    "in your prompt; 0 for the completion). Please reduce your prompt; or completion length."
)
FULL = "Invalid 'input': maximum request size is 300000 tokens per request."


@pytest.mark.parametrize("error_text", [LONG, FULL])
def test_a_text_that_is_too_long_is_recognised_by_the_error_text(server, error_text):
    server.complain(400, error_text, type="invalid_request_error", param=None, code=None)
    with pytest.raises(TextTooLongError):
        vectors_of(client_of(server), ["a", "b"])


def test_a_text_that_may_be_truncated_is_truncated_until_it_fits_in_any_language(server):
    body = orjson.dumps({"error": {"message": LONG, "type": "invalid_request_error"}})
    server.faults.status(400, body, when=lambda request: len(request.body) > 30_000)
    assert len(vectors_of(client_of(server), ["東" * 50_000], truncate=True)) == 1
    (order,) = server.orders()
    assert 0 < len(order["input"][0].encode()) < CONTEXT_TOKENS


def test_a_truncated_text_does_not_truncate_the_others(server):
    body = orjson.dumps({"error": {"message": LONG, "type": "invalid_request_error"}})
    server.faults.status(400, body, when=lambda request: len(request.body) > 30_000)
    with pytest.raises(TextTooLongError):
        vectors_of(client_of(server), ["fits " * 2000, "東" * 50_000], truncate=True)


def test_a_refused_text_is_the_cause_if_the_canary_is_accepted(server):
    body = b'{"error":{"message":"Invalid input","type":"invalid_request_error","param":"input"}}'
    server.faults.status(400, body, when=contains(b"bad"))
    for texts in (["good", "bad"], ["bad"]):
        with pytest.raises(RejectedError, match="Invalid input"):
            vectors_of(client_of(server), texts)


def test_a_server_that_refuses_every_text_is_a_configuration_error(server):
    server.complain(400, "organization must verify something")
    with pytest.raises(ConfigurationError, match="no usable vector of any text"):
        vectors_of(client_of(server), ["a page"])


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
def test_overload_and_server_errors_are_transient(server, status):
    server.complain(status, "The server had an error", {"Retry-After": "3"})
    with pytest.raises(TransientError, match="had an error") as caught:
        vectors_of(client_of(server), ["a"])
    assert caught.value.retry_after_s == 3


def test_garbage_html_a_truncated_response_and_silence_are_transient(server):
    for add_fault, message in (
        (server.faults.garbage, "without vectors"),
        (server.faults.html, "Bad Gateway"),
        (server.faults.cut, "sent no complete response"),
    ):
        add_fault(times=1)
        with pytest.raises(TransientError, match=message):
            vectors_of(client_of(server), ["a"])
    server.faults.hang()
    with pytest.raises(TransientError, match="did not answer"):
        vectors_of(client_of(server), ["a"], timeout_s=0.3)


def test_the_check_reports_the_context_and_finds_errors(server):
    facts = using(client_of(server), lambda client: client.check())
    assert facts == ModelInfo(dimensions=768, context_tokens=8192, capitals_defect=False)
    server.complain(400, "no")
    with pytest.raises(ConfigurationError):
        using(client_of(server), lambda client: client.check())
