"""The vectors nearest to one, while all of them pass by."""

from __future__ import annotations

import heapq
import math
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gibsey_embedder.tables.row_checks import StoredVector

MOST_SIZES = 10


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """A page that was found.

    Attributes:
        score: The cosine of the angle to the question, 1 at most.
        page_id: The page.
    """

    score: float
    page_id: str


class Nearest:
    """Keeps the nearest rows; memory for `limit` of them.

    Args:
        question: The vector to compare with, of unit length.
        limit: How many are kept.
        model: The model that must be written beside a vector; None: not looked at.

    Attributes:
        compared: Rows compared.
        unfit: Rows passed over: another size, or not finite.
        sizes: How often each other size came, the first ten of them.
        other_model: Rows passed over: another model's.
    """

    def __init__(self, question: Sequence[float], limit: int, model: str | None = None) -> None:
        self._question = question
        self._limit = limit
        self._model = model
        self._best: list[Match] = []
        self.compared = 0
        self.unfit = 0
        self.sizes: Counter[int] = Counter()
        self.other_model = 0

    def add(self, row: StoredVector) -> None:
        """Compare a row."""
        if self._model is not None and row.model != self._model:
            self.other_model += 1
            return
        score = self._score(row.values)
        if score is None:
            self.unfit += 1
            self._note_size(row.values)
            return
        self.compared += 1
        match = Match(score, row.page_id)
        if len(self._best) < self._limit:
            heapq.heappush(self._best, match)
        elif match > self._best[0]:
            heapq.heapreplace(self._best, match)

    @property
    def best(self) -> list[Match]:
        """The nearest, the nearest one first."""
        return sorted(self._best, reverse=True)

    def _note_size(self, values: object) -> None:
        size = len(values) if isinstance(values, list) else 0
        if size != len(self._question) and (size in self.sizes or len(self.sizes) < MOST_SIZES):
            self.sizes[size] += 1

    def _score(self, values: object) -> float | None:
        """The cosine, for vectors of any length: some workers store them as the model made them."""
        if not isinstance(values, list) or len(values) != len(self._question):
            return None
        try:
            product = sum(map(operator.mul, self._question, values))
            score = float(product / math.hypot(*values))
        except (TypeError, ZeroDivisionError):
            return None
        return score if math.isfinite(score) else None
