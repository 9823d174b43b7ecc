"""Results as a table on the terminal, as JSON and as Markdown."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rich.console import Console
from rich.table import Table

from bench.reading import Measurement

RESULTS = Path(__file__).parent / "results"
LEFT = ("figure", "target", "bound", "busiest stand-in")
LIMIT_PERCENT = 80
"""Of the core that a stand-in can use: beyond, it may have been the limit itself."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, measured once or a few times.

    Attributes:
        readings: Its values, at least one.
    """

    readings: Sequence[Measurement]
    HEAD: ClassVar[tuple[str, ...]] = (
        "figure", "median", "least", "most", "runs", "target", "busiest stand-in", "machine",
    )  # fmt: skip

    @property
    def name(self) -> str:
        """What it is."""
        return self.readings[0].name

    @property
    def values(self) -> list[float]:
        """One a run."""
        return [reading.value for reading in self.readings]

    @property
    def median(self) -> float:
        """The middle one of its values."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median is within the target; None where there is none."""
        target = self.readings[0].target
        return None if target is None else target.met(self.median)

    @property
    def verdict(self) -> str:
        """The target, and whether it is met."""
        return "" if self.met is None else f"{self.readings[0].target}: {VERDICTS[self.met]}"

    @property
    def fake(self) -> str:
        """The busiest one, and how busy; with a warning where it may have been the limit."""
        around = [reading.around for reading in self.readings if reading.around]
        if not around:
            return ""
        most = max(around, key=lambda one: one.stand_in_percent)
        warning = " **its limit?**" if most.stand_in_percent > LIMIT_PERCENT else ""
        return f"{most.fake} {most.stand_in_percent:.0f} %{warning}"

    @property
    def machine(self) -> str:
        """How much of all cores was used."""
        used = [reading.around.machine_percent for reading in self.readings if reading.around]
        return f"{statistics.median(used):.0f} %" if used else ""

    def cells(self) -> tuple[str, ...]:
        """Its row in a table."""
        median, least, most = rounded(self.median, min(self.values), max(self.values))
        runs = len(self.values)
        spread = (least, most) if runs > 1 else ("", "")
        name = f"{self.name} ({self.readings[0].unit})"
        return (name, median, *spread, str(runs), self.verdict, self.fake, self.machine)

    def as_json(self) -> dict[str, object]:
        """Itself as JSON values."""
        target = self.readings[0].target
        return {
            "name": self.name,
            "unit": self.readings[0].unit,
            "median": self.median,
            "values": self.values,
            "target": None if target is None else str(target),
            "met": self.met,
            "busiest_stand_in": self.fake,
            "machine": self.machine,
        }


VERDICTS = {True: "met", False: "MISSED"}


@dataclass(slots=True)
class Results:
    """What a run of the bench has found.

    Attributes:
        facts: The machine.
        kind: What the values of a figure are shown as.
        readings: The values by figure, in the order in which they came first.
        notes: What failed and what was left out.
    """

    facts: dict[str, str]
    kind: type[Figure] = Figure
    readings: dict[str, list[Measurement]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, reading: Measurement) -> None:
        """Take one more value."""
        self.readings.setdefault(reading.name, []).append(reading)

    @property
    def figures(self) -> list[Figure]:
        """What has been measured so far."""
        return [self.kind(readings) for readings in self.readings.values()]

    def medians(self, names: Iterable[str]) -> list[float]:
        """The medians of some figures, in order."""
        return [Figure(self.readings[name]).median for name in names]

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
        """Write a file of JSON and, beside it, one of Markdown."""
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
    """Values as text, all with as many decimals as suit the first."""
    return [f"{value:,.{_decimals(values[0])}f}" for value in values]


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
