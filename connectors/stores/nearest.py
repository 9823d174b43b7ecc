"""Nearest-neighbour search by a scan, for stores without a vector index."""

from __future__ import annotations

import heapq
import math
import operator
from collections import Counter
from collections.abc import Sequence

from connectors.stores.base import Match, NearestRows, StoredVector

MAX_SIZES = 10


class Nearest:
    """Keeps the nearest of the rows that it is given; uses memory for `limit` rows.

    Args:
        question: The vector to compare with, of unit length.
        limit: How many rows to keep.
        model: Skip vectors of other models; None: compare all.
    """

    def __init__(self, question: Sequence[float], limit: int, model: str | None = None) -> None:
        self._question = question
        self._limit = limit
        self._model = model
        self._best: list[Match] = []
        self._compared = 0
        self._unfit = 0
        self._sizes: Counter[int] = Counter()
        self._other_model = 0

    def add(self, row: StoredVector) -> None:
        """Compare a row."""
        if self._model is not None and row.model != self._model:
            self._other_model += 1
            return
        score = self._score(row.values)
        if score is None:
            self._unfit += 1
            self._count_size(row.values)
            return
        self._compared += 1
        match = Match(score, row.page_id)
        if len(self._best) < self._limit:
            heapq.heappush(self._best, match)
        elif match > self._best[0]:
            heapq.heapreplace(self._best, match)

    def result(self) -> NearestRows:
        """Return the nearest rows so far, and what was skipped."""
        return NearestRows(
            sorted(self._best, reverse=True),
            self._compared,
            self._unfit,
            dict(self._sizes),
            self._other_model,
        )

    def _count_size(self, values: object) -> None:
        size = len(values) if isinstance(values, list) else 0
        is_other = size != len(self._question)
        if is_other and (size in self._sizes or len(self._sizes) < MAX_SIZES):
            self._sizes[size] += 1

    def _score(self, values: object) -> float | None:
        """Return the cosine for a vector of any length: other programs may not normalise theirs."""
        if not isinstance(values, list) or len(values) != len(self._question):
            return None
        try:
            product = sum(map(operator.mul, self._question, values))
            score = float(product / math.hypot(*values))
        except (TypeError, ZeroDivisionError):
            return None
        return score if math.isfinite(score) else None
