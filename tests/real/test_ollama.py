"""Against a real Ollama with the model pulled, at TEST_EMBED_URL (model: TEST_EMBED_MODEL)."""

from __future__ import annotations

import math
import os

import pytest

from connectors.core.errors import ConfigurationError, RejectedError
from connectors.embedders.base import TextTooLongError
from connectors.embedders.ollama.client import OllamaClient
from connectors.embedders.ollama.urls import root_of
from tests.connectors.http.clients import using, vectors_of

URL = os.environ.get("TEST_EMBED_URL", "")
MODEL = os.environ.get("TEST_EMBED_MODEL", "nomic-embed-text")

pytestmark = [
    pytest.mark.real,
    pytest.mark.ollama,
    pytest.mark.skipif(not URL, reason="TEST_EMBED_URL names no Ollama"),
]

TEXTS = ["A cat sat.", "Law of contracts, part two", "naïve \U0001f469\u200d\U0001f4bb 東京", "x"]


def client_of(model: str = MODEL, dimensions: int = 768, **other):
    return lambda http: OllamaClient(http, URL, model, dimensions, **other)


class LegacyOnly(OllamaClient):
    """Knows of no other path, as against a server that is too old."""

    async def _request_batch(self, texts, timeout_s, truncate):
        return await self._request_each(texts, timeout_s, truncate)


def test_the_answers_to_a_batch_are_those_to_single_texts():
    together = vectors_of(client_of(), TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        assert math.dist(vectors_of(client_of(), [text])[0], vector) < 1e-5


def test_vectors_have_768_numbers_and_unit_length_by_both_paths_and_the_same_direction():
    new = vectors_of(client_of(), TEXTS)
    old = vectors_of(lambda http: LegacyOnly(http, URL, MODEL, 768), TEXTS)
    for one, other in zip(new, old, strict=True):
        assert len(one) == len(other) == 768
        assert math.hypot(*one) == pytest.approx(1, abs=1e-6)
        assert math.hypot(*other) == pytest.approx(1, abs=1e-6)
        assert math.dist(one, other) < 1e-5


def test_a_missing_model_is_reported_with_the_command_that_pulls_it():
    for ask in (lambda c: c.check(), lambda c: c.embed(["a"], timeout_s=30, truncate=False)):
        with pytest.raises(ConfigurationError, match="no model surely-not-there") as caught:
            using(client_of("surely-not-there"), ask)
        assert "ollama pull surely-not-there" in caught.value.remedy


def test_a_text_that_is_too_long_is_recognised_and_can_be_cut():
    long = "a sentence of some words. " * 2000  # 0.24 cannot cut texts with capitals
    with pytest.raises(TextTooLongError):
        vectors_of(client_of(), ["short", long])
    assert len(vectors_of(client_of(), ["short", long], truncate=True)) == 2


def test_what_counts_as_short_enough_for_the_context_is_taken():
    facts = using(client_of(), lambda client: client.check())
    assert facts.dimensions == 768
    assert facts.context_tokens
    prose = "The quick brown fox jumps over the lazy dog and runs away. " * 1000
    assert vectors_of(client_of(), [prose[: 2 * facts.context_tokens]])[0]


def test_a_model_of_another_size_is_a_fault_of_the_set_up():
    with pytest.raises(ConfigurationError, match="768 dimensions instead of 512"):
        vectors_of(client_of(dimensions=512), TEXTS)


def test_an_address_with_another_path_names_the_setting():
    url = root_of(URL) + "/nowhere"
    with pytest.raises(ConfigurationError, match="404") as caught:
        vectors_of(lambda http: OllamaClient(http, url, MODEL, 768), TEXTS)
    assert "EMBED_URL" in caught.value.remedy


def test_a_server_that_loses_capitals_is_reported_and_lower_case_fixes_it():
    facts = using(client_of(), lambda client: client.check())
    words = ["Vienna", "Lisbon"]  # others than those that the check asks for
    as_they_are = vectors_of(client_of(), words, timeout_s=60)
    assert facts.capitals_defect == (math.dist(*as_they_are) < 1e-3)
    lowered = vectors_of(client_of(), [word.lower() for word in words], timeout_s=60)
    assert math.dist(*lowered) > 0.1


def test_odd_texts_get_vectors_too():
    texts = ["\x00", "\u2028", "a\tb\nc", "\U0010ffff", "'\"\\", " leading", "." * 300]
    assert all(vector for vector in vectors_of(client_of(), texts))
    with pytest.raises(RejectedError):
        vectors_of(client_of(), ["half a pair \udc00"])
