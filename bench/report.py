"""Results as a table on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
HEAD = ("figure", "median", "least", "most", "runs", "target")


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should be.

    Attributes:
        value: The limit.
        at_least: Whether more is better.
    """

    value: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value is within it."""
        return value >= self.value if self.at_least else value <= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, measured a few times.

    Attributes:
        name: What it is.
        unit: Its unit.
        values: One a run.
        target: What it should be, if anybody said.
    """

    name: str
    unit: str
    values: list[float]
    target: Target | None = None

    @property
    def median(self) -> float:
        """The middle one of its values."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """The target, and whether the median meets it."""
        if self.target is None:
            return ""
        sign = "≥" if self.target.at_least else "≤"
        met = "met" if self.target.met(self.median) else "MISSED"
        return f"{sign} {self.target.value:g}: {met}"

    def cells(self) -> tuple[str, ...]:
        """Its row in a table."""
        numbers = (self.median, min(self.values), max(self.values))
        shown = (f"{number:,.{_decimals(self.median)}f}" for number in numbers)
        return (f"{self.name} ({self.unit})", *shown, str(len(self.values)), self.verdict)

    def as_json(self) -> dict[str, object]:
        """Itself as JSON values."""
        target = None if self.target is None else self.target.value
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "values": self.values,
            "target": target,
            "met": None if self.target is None else self.target.met(self.median),
        }


def show(figures: Sequence[Figure], facts: Mapping[str, str]) -> None:
    """Print the table."""
    table = Table(title="gibsey-embedder", caption=_line(facts), title_justify="left")
    for name in HEAD:
        table.add_column(name, justify="left" if name in ("figure", "target") else "right")
    for figure in figures:
        missed = "MISSED" in figure.verdict
        table.add_row(*figure.cells(), style="bold red" if missed else None)
    Console(width=None if Console().is_terminal else 120).print(table)


def write(figures: Sequence[Figure], facts: Mapping[str, str]) -> None:
    """Write `latest.json` and `latest.md`."""
    RESULTS.mkdir(exist_ok=True)
    result = {"machine": dict(facts), "figures": [figure.as_json() for figure in figures]}
    (RESULTS / "latest.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    rows = [HEAD, ("---",) + ("---:",) * 4 + ("---",), *(figure.cells() for figure in figures)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    (RESULTS / "latest.md").write_text(f"{table}\n\n{_line(facts)}\n", encoding="utf-8")


def _line(facts: Mapping[str, str]) -> str:
    return " · ".join(f"{name}: {value}" for name, value in facts.items())


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
