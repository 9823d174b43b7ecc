"""What every embedder client guarantees: 768 valid numbers for each text, or a clear error."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from connectors.core.errors import ConfigurationError, TransientError
from connectors.embedders.ollama.client import OllamaClient
from gibsey_embedder.fakes.model import Quirk
from gibsey_embedder.fakes.ollama import Ollama
from tests.connectors.http.clients import using, vectors_of


@pytest.fixture
def ollama() -> Iterator[Ollama]:
    with Ollama() as server:
        assert isinstance(server, Ollama)
        yield server


def client_of(server: Ollama, dimensions: int = 768):
    return lambda http: OllamaClient(http, server.embed_url, "nomic-embed-text", dimensions)


def test_768_numbers_of_unit_length_are_returned_for_each_text_in_order(ollama):
    texts = [f"page number {n} about {'cats' if n % 2 else 'law'}" for n in range(40)]
    together = vectors_of(client_of(ollama), texts)
    alone = [vectors_of(client_of(ollama), [text])[0] for text in texts[:5]]
    assert [len(vector) for vector in together] == [768] * 40
    assert [math.hypot(*vector) for vector in together] == pytest.approx([1.0] * 40, abs=1e-6)
    assert together[:5] == alone
    assert list(ollama.batches) == [40, 1, 1, 1, 1, 1]


def test_767_numbers_for_every_text_are_a_configuration_error(ollama):
    ollama.add_quirk("short")
    with pytest.raises(ConfigurationError, match="767 dimensions") as caught:
        vectors_of(client_of(ollama), ["one", "two"])
    assert "EMBED_MODEL" in caught.value.remedy
    assert "EMBED_DIMENSIONS" in caught.value.remedy


@pytest.mark.parametrize("quirk", ["short", "zero", "nan_literal", "infinity"])
def test_an_invalid_vector_does_not_affect_the_valid_ones(ollama, quirk: Quirk):
    ollama.add_quirk(quirk, match="bad")
    good, bad, other = vectors_of(client_of(ollama), ["good", "bad", "other"])
    assert (len(good), bad, len(other)) == (768, None, 768)


@pytest.mark.parametrize("quirk", ["short", "zero", "nan_literal", "infinity"])
def test_a_page_is_the_cause_of_its_invalid_vector_if_the_canary_has_a_valid_one(
    ollama, quirk: Quirk
):
    ollama.add_quirk(quirk, match="bad")
    assert vectors_of(client_of(ollama), ["bad"]) == [None]
    assert vectors_of(client_of(ollama), ["bad", "also bad"]) == [None, None]


@pytest.mark.parametrize("quirk", ["nan", "zero", "nan_literal", "infinity", "rejected"])
def test_an_embedder_without_any_valid_vector_is_a_configuration_error(ollama, quirk: Quirk):
    ollama.add_quirk(quirk)
    with pytest.raises(ConfigurationError, match="no usable vector of any text"):
        vectors_of(client_of(ollama), ["a page"])


@pytest.mark.parametrize(("quirk", "received"), [("few", "1 vectors"), ("many", "3 vectors")])
def test_too_few_or_too_many_vectors_are_transient(ollama, quirk: Quirk, received):
    ollama.add_quirk(quirk, match="one")
    with pytest.raises(TransientError, match=f"{received} for 2 texts"):
        vectors_of(client_of(ollama), ["one", "two"])


def test_vectors_of_another_length_are_normalised(ollama):
    ollama.add_quirk("unnormalised")
    (vector,) = vectors_of(client_of(ollama), ["a page"])
    assert math.hypot(*vector) == pytest.approx(1.0, abs=1e-6)


def test_the_error_of_the_check_names_a_model_of_another_size(ollama):
    with pytest.raises(ConfigurationError, match="768 dimensions instead of 1024"):
        using(client_of(ollama, dimensions=1024), lambda client: client.check())
