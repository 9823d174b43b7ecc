"""The checks of the demo find lost, doubled and wrong data."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from gibsey_embedder.demo.checks import check_all
from gibsey_embedder.demo.feed import percentile
from gibsey_embedder.demo.services import DEAD_LETTERS, Services
from gibsey_embedder.fakes.ngrams import embed_text

PAGES = {"a": "the first page", "b": "another page"}
CHANGES = {"a": 1, "b": 1}


@pytest.fixture
def services() -> Iterator[Services]:
    with Services({}) as started:
        for page_id, body in PAGES.items():
            started.stargate.vectors.put(page_id, orjson.dumps({"vector": embed_text(body)}))
            started.rag.counts[page_id] += 1
        yield started


def problems(services: Services) -> list[str]:
    return [problem for check in check_all(services, PAGES, CHANGES) for problem in check.problems]


def test_a_complete_run_has_no_problems(services: Services) -> None:
    assert problems(services) == []


def test_a_lost_vector_is_found(services: Services) -> None:
    services.stargate.vectors.rows.pop("a")
    assert problems(services) == ["a: no vector"]


@pytest.mark.parametrize(
    ("vector", "problem"),
    [
        (embed_text("the old text"), "a: not the vector of its text"),
        (embed_text("the first page")[:767], "a: not 768 numbers of unit length"),
        ([0.5] * 768, "a: not 768 numbers of unit length"),
    ],
)
def test_a_wrong_vector_is_found(services: Services, vector: list[float], problem: str) -> None:
    services.stargate.vectors.rows["a"] = orjson.dumps({"vector": vector})
    assert problems(services) == [problem]


def test_doubled_and_unexpected_items_are_found(services: Services) -> None:
    services.stargate.vectors.writes["a"] += 1
    services.rag.counts["c"] += 1
    assert problems(services) == ["a: 2 times instead of 1", "c: 1 times instead of 0"]


def test_a_dead_letter_is_found(services: Services) -> None:
    services.kafka.produce(DEAD_LETTERS, "a", b"x", headers=[("reason", b"undecodable")])
    services.kafka.flush()
    assert problems(services) == ["undecodable"]


def test_percentiles_are_existing_values() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 2.0, 3.0]
    assert percentile([], 0.5) == 0.0
