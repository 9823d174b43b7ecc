"""Checks a stored page and its stored vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from connectors.stores.base import Page, StoredVector

Kind = Literal["missing", "orphan", "bad-vector", "other-model"]
KINDS: tuple[Kind, ...] = get_args(Kind)

UNIT_TOLERANCE = 1.06e-6
"""How far a stored length may be from 1: the contract's 1e-6, plus 6e-8 because the table rounds
each number to float32."""

_NUMBERS = {float, int}


@dataclass(frozen=True, slots=True)
class RowProblem:
    """The problem of one page.

    Attributes:
        kind: The kind of problem, for programs.
        detail: The details, for people; may be empty.
    """

    kind: Kind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RowCheck:
    """Checks whether rows have a good vector.

    Attributes:
        dimensions: Number of dimensions of a vector.
        model: The model that a row must name; None: any.
    """

    dimensions: int
    model: str | None = None

    def vector_row(self, row: StoredVector) -> RowProblem | None:
        """Return the problem of a vector, regardless of its page."""
        if problem := vector_problem(row.values, self.dimensions):
            return RowProblem("bad-vector", problem)
        if self.model is not None and row.model != self.model:
            detail = f"made by {row.model}" if row.model else "no model is stored"
            return RowProblem("other-model", detail)
        return None

    def pair(self, page: Page | None, row: StoredVector | None) -> RowProblem | None:
        """Return the problem of the page and the vector of one id."""
        if row is None:
            return RowProblem("missing") if page is not None and page.has_text else None
        if page is None:
            return RowProblem("orphan")
        return self.vector_row(row)


def vector_problem(values: object, dimensions: int) -> str:
    """Return why a stored value is not a finite vector of unit length; empty if it is one."""
    if not isinstance(values, list):
        return "no vector"
    if len(values) != dimensions:
        return f"{len(values)} numbers instead of {dimensions}"
    if not set(map(type, values)) <= _NUMBERS:  # a store may return NaN and Infinity as texts
        odd = next(value for value in values if type(value) not in _NUMBERS)
        return f"holds {odd}"
    length = math.hypot(*values)
    if not math.isfinite(length):
        return "holds NaN or Infinity"
    return "" if abs(length - 1.0) <= UNIT_TOLERANCE else f"length {length:.7g} instead of 1"
