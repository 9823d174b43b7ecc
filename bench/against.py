"""`--against REVISION`: another revision and this one, measured in turns; what is their ratio?

The other revision is started as its users start it, by its own interpreter. Broker, stand-ins and
clocks are this revision's for both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

from typing_extensions import override

from bench import free, idle, live_edits, machine, memory
from bench.checkout import Checkout
from bench.reading import Around, Measurement, Pair, Step, Target
from bench.report import Figure, rounded
from bench.rounds import Turn
from bench.scope import Scope

Side = Literal["other", "this"]
Scopes = Mapping[Side, Scope]

RUNS = 7
AT_LEAST = 0.95
MORE_IS_BETTER = ("pages/s",)
"""Units. Of all others, less is better."""
STARTS = 3
"""A single start depends on what else the machine does, so the middle one of three counts."""
FOREIGN_PERCENT = 15
"""Of all cores. If other processes use more, they may disturb one revision more than the other."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is measured of both revisions in one go.

    Attributes:
        name: Its name for `--only`; the part before the hyphen names all such rows.
        seconds: How long it takes for both, about.
        run: Measures one of them.
    """

    name: str
    seconds: float
    run: Callable[[Scope], Iterable[Measurement]]


def _free(way: str, workers: int, scope: Scope) -> Iterable[Measurement]:
    return free.speed_and_cpu(scope, way, f"-w {workers}")


def _edits(workers: int, scope: Scope) -> Iterable[Measurement]:
    return live_edits.edits(scope, workers)


def _idle(scope: Scope) -> Iterable[Measurement]:
    return [idle.idle_cpu(scope, 1)]


def _memory(scope: Scope) -> Iterable[Measurement]:
    return [memory.resident(scope)]


def _start(scope: Scope) -> Iterable[Measurement]:
    starts = [idle.start(scope) for _ in range(STARTS)]
    return [sorted(starts, key=lambda start: start.value)[STARTS // 2]]


ROWS = (
    *(
        Row(f"{way}-w{workers}", 18, partial(_free, way, workers))
        for way in ("rest", "graphql")
        for workers in (1, 4)
    ),
    *(Row(f"edits-w{workers}", 28, partial(_edits, workers)) for workers in (1, 4)),
    Row("idle", 40, _idle),
    Row("memory", 16, _memory),
    Row("start", 16, _start),
)


def chosen(names: Iterable[str]) -> list[Row]:
    """The rows of these names; all rows if there are none."""
    wanted = set(names)
    return [r for r in ROWS if not wanted or wanted & {r.name, r.name.partition("-")[0]}]


def names() -> list[str]:
    """What `chosen` knows."""
    return sorted({name for row in ROWS for name in (row.name, row.name.partition("-")[0])})


def turns(
    rows: Sequence[Row], scope: Scope, other: Checkout, runs: int, at_least: float
) -> list[Turn]:
    """All rows round by round, after a first start of each revision."""
    scopes: Scopes = {"other": replace(scope, checkout=other), "this": scope}
    warm_up = Step("warm-up", "warm-up, which does not count", 6, partial(_warm_up, scopes))
    return [
        Turn(1, warm_up),
        *(
            Turn(number, Step(row.name, row.name, row.seconds, run))
            for number in range(1, runs + 1)
            for row in rows
            for run in [partial(pairs, row, scopes, number, at_least)]
        ),
    ]


def _warm_up(scopes: Scopes) -> Iterable[Measurement]:
    """Start each once, so that Python has compiled what it imports."""
    for scope in scopes.values():
        idle.start(scope)
    return []


def order(number: int) -> tuple[Side, Side]:
    """Who comes first in a round: each in turn, so that a drift of the machine falls on both."""
    return ("other", "this") if number % 2 else ("this", "other")


def pairs(row: Row, scopes: Scopes, number: int, at_least: float) -> Iterable[Measurement]:
    """Measure a row of both revisions in one round."""
    began, foreign_s = time.monotonic(), machine.foreign_cpu_s()
    readings = {side: list(row.run(scopes[side])) for side in order(number)}
    foreign = (machine.foreign_cpu_s() - foreign_s) / (time.monotonic() - began) / machine.CORES
    for other, this in zip(readings["other"], readings["this"], strict=True):
        pair = Pair(other.value, this.value, 100 * foreign)
        around = busier(other.around, this.around)
        yield Measurement(
            this.name,
            this.unit,
            ratio(this.unit, pair),
            Target(at_least, at_least=True),
            around,
            pair,
        )


def ratio(unit: str, pair: Pair) -> float:
    """How much better this revision is: 1 is as good, 0.5 half as good."""
    return pair.this / pair.other if unit in MORE_IS_BETTER else pair.other / pair.this


def busier(*around: Around | None) -> Around | None:
    """That with the busiest stand-in."""
    known = [one for one in around if one is not None]
    return max(known, key=lambda one: one.stand_in_percent, default=None)


class Comparison(Figure):
    """A figure of both revisions; its values are the ratios."""

    __slots__ = ()
    HEAD: ClassVar[tuple[str, ...]] = (
        "figure", "other", "this", "ratio", "least", "most", "runs", "bound",
        "busiest stand-in", "other processes",
    )  # fmt: skip

    @property
    def pairs(self) -> list[Pair]:
        """What was measured, a pair a run."""
        return [reading.pair for reading in self.readings if reading.pair]

    @property
    def medians(self) -> tuple[float, float]:
        """The other revision's, and this one's."""
        others, own = zip(*((pair.other, pair.this) for pair in self.pairs), strict=True)
        return statistics.median(others), statistics.median(own)

    @property
    def foreign(self) -> str:
        """How much of all cores other processes used; with a warning where that disturbs."""
        percent = statistics.median(pair.foreign_percent for pair in self.pairs)
        return f"{percent:.0f} %" + (" **too busy**" if percent > FOREIGN_PERCENT else "")

    @override
    def cells(self) -> tuple[str, ...]:
        ratios = (f"{value:.3f}" for value in (self.median, min(self.values), max(self.values)))
        name = f"{self.name} ({self.readings[0].unit})"
        runs = str(len(self.values))
        return (
            name,
            *rounded(*self.medians),
            *ratios,
            runs,
            self.verdict,
            self.fake,
            self.foreign,
        )

    @override
    def as_json(self) -> dict[str, object]:
        other, this = self.medians
        return {
            "name": self.name,
            "unit": self.readings[0].unit,
            "other": other,
            "this": this,
            "ratio": self.median,
            "ratios": self.values,
            "pairs": [(pair.other, pair.this) for pair in self.pairs],
            "bound": str(self.readings[0].target),
            "met": self.met,
            "busiest_stand_in": self.fake,
            "other_processes": self.foreign,
        }
