"""Checks the result of the demo: nothing is lost or doubled, and every vector is right."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import fsum, sqrt
from operator import mul

from gibsey_embedder.demo.services import DEAD_LETTERS, Services

DIMENSIONS = 768
EXACT = 1e-6
LONG_PAGE_COSINE = 0.8
REAL_COSINE = 0.99
REAL_SAMPLE = 20
MAX_LINES = 5


@dataclass(frozen=True, slots=True)
class Check:
    """A check and its result.

    Attributes:
        name: The name of the check.
        problems: The problems; empty if the check passed.
    """

    name: str
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


def check_all(
    services: Services, pages: Mapping[str, str], changes: Mapping[str, int]
) -> list[Check]:
    """Compare the data of the services with the changes.

    Args:
        services: The services.
        pages: The newest text of each page.
        changes: The number of changes of each page.
    """
    writes, notified = services.stargate.vectors.writes, services.rag.counts
    dead_letters = services.kafka.read(DEAD_LETTERS)
    return [
        Check("every page has its right vector", tuple(_wrong_vectors(services, pages))),
        Check("every change was stored exactly once", tuple(_miscounted(changes, writes))),
        Check(
            "every change caused exactly one notification", tuple(_miscounted(changes, notified))
        ),
        Check(
            "no dead letters",
            tuple(letter.headers.get("reason", b"?").decode() for letter in dead_letters),
        ),
    ]


def cosine(left: list[float], right: list[float]) -> float:
    """Return the cosine similarity of two vectors."""
    lengths = sqrt(fsum(map(mul, left, left)) * fsum(map(mul, right, right)))
    return fsum(map(mul, left, right)) / lengths if lengths else 0.0


def _miscounted(changes: Mapping[str, int], counts: Counter[str]) -> Iterator[str]:
    for page_id in changes.keys() | counts.keys():
        if (count := counts[page_id]) != (expected := changes.get(page_id, 0)):
            yield f"{page_id}: {count} times instead of {expected}"


def _wrong_vectors(services: Services, pages: Mapping[str, str]) -> Iterator[str]:
    stored = services.stargate.vectors
    compared = set(pages)
    if services.real_url:
        compared = set(random.Random(0).sample(sorted(pages), min(REAL_SAMPLE, len(pages))))
    for page_id, body in pages.items():
        vector = stored.vector(page_id)
        if vector is None:
            yield f"{page_id}: no vector"
        elif len(vector) != DIMENSIONS or abs(sqrt(fsum(map(mul, vector, vector))) - 1) > EXACT:
            yield f"{page_id}: not 768 numbers of unit length"
        elif page_id in compared and not _is_right(services, body, vector):
            yield f"{page_id}: not the vector of its text"


def _is_right(services: Services, body: str, vector: list[float]) -> bool:
    expected = services.page_vectors(body)
    if any(_are_equal(vector, other) for other in expected):
        return True
    similarity = max(cosine(vector, other) for other in expected)
    if services.is_long(body):
        return similarity >= LONG_PAGE_COSINE
    return bool(services.real_url) and similarity >= REAL_COSINE


def _are_equal(left: list[float], right: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(left, right, strict=True)) <= EXACT
