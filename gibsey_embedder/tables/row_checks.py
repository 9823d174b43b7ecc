"""What is wrong with a page and its vector, as they are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["missing", "orphan", "bad-vector", "other-model"]
KINDS: tuple[Kind, ...] = get_args(Kind)

UNIT_TOLERANCE = 1.06e-6
"""How far a stored length may be from 1: promised is 1e-6, and rounding each number to the
table's float32 moves the length by up to 6e-8."""

_NUMBERS = {float, int}


@dataclass(frozen=True, slots=True)
class Page:
    """A row of the table of the pages.

    Attributes:
        page_id: Its key.
        body: Its text; None where it has none.
    """

    page_id: str
    body: str | None

    @property
    def has_text(self) -> bool:
        """Whether there is anything to embed, so that it needs a vector."""
        return bool(self.body) and not (self.body or "").isspace()


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A row of the table of the vectors.

    Attributes:
        page_id: Its key.
        values: The column `vector` as Stargate gives it.
        model: The model beside it, where STARGATE_MODEL_COLUMN is set.
    """

    page_id: str
    values: object
    model: object = None


@dataclass(frozen=True, slots=True)
class RowProblem:
    """What is wrong with one page.

    Attributes:
        kind: What, for programs.
        detail: What, for people; may be empty.
    """

    kind: Kind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a good vector is.

    Attributes:
        dimensions: Its size.
        model: The model that must be written beside it; None: not looked at.
    """

    dimensions: int
    model: str | None = None

    def problem_of(self, row: StoredVector) -> RowProblem | None:
        """What is wrong with a vector, whatever its page is."""
        if flaw := vector_problem(row.values, self.dimensions):
            return RowProblem("bad-vector", flaw)
        if self.model is not None and row.model != self.model:
            return RowProblem(
                "other-model", f"made by {row.model}" if row.model else "no model is written"
            )
        return None

    def judge(self, page: Page | None, row: StoredVector | None) -> RowProblem | None:
        """What is wrong with what one id has in the two tables."""
        if row is None:
            return RowProblem("missing") if page is not None and page.has_text else None
        if page is None:
            return RowProblem("orphan")
        return self.problem_of(row)


def vector_problem(values: object, dimensions: int) -> str:
    """Why a stored value is no finite vector of unit length; empty where it is one."""
    if not isinstance(values, list):
        return "no vector"
    if len(values) != dimensions:
        return f"{len(values)} numbers instead of {dimensions}"
    if not set(map(type, values)) <= _NUMBERS:  # Stargate writes NaN and Infinity as texts
        odd = next(value for value in values if type(value) not in _NUMBERS)
        return f"holds {odd}"
    length = math.hypot(*values)
    if not math.isfinite(length):
        return "holds NaN or Infinity"
    return "" if abs(length - 1.0) <= UNIT_TOLERANCE else f"length {length:.7g} instead of 1"
