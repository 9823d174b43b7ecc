"""What must be true when the demo ends: nothing lost, nothing doubled, every vector right."""

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
SHOWN = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be true.

    Attributes:
        name: What was looked at.
        faults: What is wrong with it; nothing if all is right.
    """

    name: str
    faults: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def check_all(
    services: Services, pages: Mapping[str, str], changes: Mapping[str, int]
) -> list[Check]:
    """Compares what the services hold with what was sent.

    Args:
        services: The stand-ins.
        pages: Each page's newest text.
        changes: How many changes of each page were sent.
    """
    writes, notified = services.stargate.vectors.writes, services.rag.counts
    letters = services.kafka.read(DEAD_LETTERS)
    return [
        Check("every page has its right vector", tuple(_wrong_vectors(services, pages))),
        Check("every change was stored, once", tuple(_miscounted(changes, writes))),
        Check("every change was notified, once", tuple(_miscounted(changes, notified))),
        Check(
            "no dead letters",
            tuple(letter.headers.get("reason", b"?").decode() for letter in letters),
        ),
    ]


def cosine(left: list[float], right: list[float]) -> float:
    """How near two vectors are, 1 for the same direction."""
    lengths = sqrt(fsum(map(mul, left, left)) * fsum(map(mul, right, right)))
    return fsum(map(mul, left, right)) / lengths if lengths else 0.0


def _miscounted(wanted: Mapping[str, int], seen: Counter[str]) -> Iterator[str]:
    for page_id in wanted.keys() | seen.keys():
        if (found := seen[page_id]) != (expected := wanted.get(page_id, 0)):
            yield f"{page_id}: {found} times instead of {expected}"


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
        elif page_id in compared and not _right(services, body, vector):
            yield f"{page_id}: not the vector of its text"


def _right(services: Services, body: str, vector: list[float]) -> bool:
    rights = services.page_vectors(body)
    if any(_same(vector, right) for right in rights):
        return True
    nearness = max(cosine(vector, right) for right in rights)
    if services.is_long(body):
        return nearness >= LONG_PAGE_COSINE
    return bool(services.real_url) and nearness >= REAL_COSINE


def _same(left: list[float], right: list[float]) -> bool:
    return max(abs(a - b) for a, b in zip(left, right, strict=True)) <= EXACT
