"""Writes results as a table on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.table import Table

from bench.measurement import Measurement

RESULTS = Path(__file__).parent / "results"
LEFT = ("figure", "target", "bound", "busiest fake")
LIMIT_PERCENT = 80
"""A fake that uses more of its core may have been the limit itself."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, measured once or several times.

    Attributes:
        measurements: The measurements, at least one.
    """

    measurements: Sequence[Measurement]
    HEAD: ClassVar[tuple[str, ...]] = (
        "figure", "median", "least", "most", "runs", "target", "busiest fake", "machine",
    )  # fmt: skip

    @property
    def name(self) -> str:
        """The name of the figure."""
        return self.measurements[0].name

    @property
    def values(self) -> list[float]:
        """The values, one per round."""
        return [measurement.value for measurement in self.measurements]

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median meets the target; None without a target."""
        target = self.measurements[0].target
        return None if target is None else target.met(self.median)

    @property
    def target_result(self) -> str:
        """The target and whether it is met."""
        return (
            "" if self.met is None else f"{self.measurements[0].target}: {TARGET_RESULTS[self.met]}"
        )

    @property
    def fake(self) -> str:
        """The busiest fake and its CPU, with a warning if it may have been the limit."""
        known = [m.utilisation for m in self.measurements if m.utilisation]
        if not known:
            return ""
        busiest = max(known, key=lambda utilisation: utilisation.fake_percent)
        warning = " **its limit?**" if busiest.fake_percent > LIMIT_PERCENT else ""
        return f"{busiest.fake} {busiest.fake_percent:.0f} %{warning}"

    @property
    def machine(self) -> str:
        """The share of all cores that was used."""
        used = [m.utilisation.machine_percent for m in self.measurements if m.utilisation]
        return f"{statistics.median(used):.0f} %" if used else ""

    def cells(self) -> tuple[str, ...]:
        """Return the row for a table."""
        median, least, most = rounded(self.median, min(self.values), max(self.values))
        runs = len(self.values)
        spread = (least, most) if runs > 1 else ("", "")
        name = f"{self.name} ({self.measurements[0].unit})"
        return (name, median, *spread, str(runs), self.target_result, self.fake, self.machine)

    def as_json(self) -> dict[str, object]:
        """Return the figure as JSON values."""
        target = self.measurements[0].target
        return {
            "name": self.name,
            "unit": self.measurements[0].unit,
            "median": self.median,
            "values": self.values,
            "target": None if target is None else str(target),
            "met": self.met,
            "busiest_fake": self.fake,
            "machine": self.machine,
        }


TARGET_RESULTS = {True: "met", False: "MISSED"}


@dataclass(slots=True)
class Results:
    """The results of a run of the benchmark.

    Attributes:
        facts: Facts about the machine.
        kind: The class of the figures.
        measurements: The measurements by figure, in the order of their first measurement.
        notes: Failed and omitted measurements.
    """

    facts: dict[str, str]
    kind: type[Figure] = Figure
    measurements: dict[str, list[Measurement]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, measurement: Measurement) -> None:
        """Add a measurement."""
        self.measurements.setdefault(measurement.name, []).append(measurement)

    @property
    def figures(self) -> list[Figure]:
        """The figures so far."""
        return [self.kind(measurements) for measurements in self.measurements.values()]

    def medians(self, names: Iterable[str]) -> list[float]:
        """Return the medians of some figures, in order."""
        return [Figure(self.measurements[name]).median for name in names]

    def show(self) -> None:
        """Print the table."""
        table = Table(title="gibsey-embedder", caption=_line(self.facts), title_justify="left")
        for name in self.kind.HEAD:
            table.add_column(name, justify="left" if name in LEFT else "right")
        for figure in self.figures:
            table.add_row(*figure.cells(), style="bold red" if figure.met is False else None)
        console = Console(width=None if Console().is_terminal else 160)
        console.print(table, *self.notes, sep="\n")

    def write(self, path: Path) -> None:
        """Write a JSON file and a Markdown file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "machine": self.facts,
            "figures": [figure.as_json() for figure in self.figures],
            "notes": self.notes,
        }
        text = json.dumps(result, indent=2, ensure_ascii=False)
        path.with_suffix(".json").write_text(f"{text}\n", encoding="utf-8")
        path.with_suffix(".md").write_text(self._markdown(), encoding="utf-8")

    def _markdown(self) -> str:
        lines = ["---" if name in LEFT else "---:" for name in self.kind.HEAD]
        rows = [self.kind.HEAD, lines, *(figure.cells() for figure in self.figures)]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"{table}\n\n{_line(self.facts)}\n" + (f"\n{notes}" if notes else "")


def _line(facts: Mapping[str, str]) -> str:
    return " · ".join(f"{name}: {value}" for name, value in facts.items())


def rounded(*values: float) -> list[str]:
    """Format values with the number of decimals that suits the first value."""
    return [f"{value:,.{_decimals(values[0])}f}" for value in values]


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
