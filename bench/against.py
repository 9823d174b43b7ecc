"""`--against REVISION`: measures another revision and this one alternately, and their ratio.

The other revision starts like a user's, with its own interpreter. Both revisions use the broker,
the fakes and the clocks of this revision.
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
from bench.measurement import Measurement, Pair, Step, Target, Utilisation
from bench.report import Figure, rounded
from bench.rounds import RoundStep
from bench.scope import Scope

Side = Literal["other", "this"]
Scopes = Mapping[Side, Scope]

RUNS = 7
MIN_RATIO = 0.95
MORE_IS_BETTER = ("pages/s",)
"""Units for which more is better; for all other units, less is better."""
STARTS_PER_MEASUREMENT = 3
"""A single start depends on the machine's load, so the median of three counts."""
FOREIGN_PERCENT = 15
"""Share of all cores; other processes that use more may disturb one of the revisions."""


@dataclass(frozen=True, slots=True)
class Row:
    """A measure of both revisions.

    Attributes:
        name: The name for `--only`; the part before the hyphen selects all rows of that kind.
        seconds: Approximate duration for both revisions.
        run: Measures one revision.
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
    starts = [idle.start(scope) for _ in range(STARTS_PER_MEASUREMENT)]
    return [sorted(starts, key=lambda start: start.value)[STARTS_PER_MEASUREMENT // 2]]


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
    """Return the rows with these names, or all rows."""
    wanted = set(names)
    return [r for r in ROWS if not wanted or wanted & {r.name, r.name.partition("-")[0]}]


def names() -> list[str]:
    """Return the names that `chosen` accepts."""
    return sorted({name for row in ROWS for name in (row.name, row.name.partition("-")[0])})


def round_steps(
    rows: Sequence[Row], scope: Scope, other: Checkout, runs: int, at_least: float
) -> list[RoundStep]:
    """Return all rows round by round, after a first start of each revision."""
    scopes: Scopes = {"other": replace(scope, checkout=other), "this": scope}
    warm_up = Step("warm-up", "warm-up, which does not count", 6, partial(_warm_up, scopes))
    return [
        RoundStep(1, warm_up),
        *(
            RoundStep(number, Step(row.name, row.name, row.seconds, run))
            for number in range(1, runs + 1)
            for row in rows
            for run in [partial(pairs, row, scopes, number, at_least)]
        ),
    ]


def _warm_up(scopes: Scopes) -> Iterable[Measurement]:
    """Start each revision once, so that Python compiles its modules."""
    for scope in scopes.values():
        idle.start(scope)
    return []


def order(number: int) -> tuple[Side, Side]:
    """Return the order of a round; it alternates, so that a drift affects both revisions."""
    return ("other", "this") if number % 2 else ("this", "other")


def pairs(row: Row, scopes: Scopes, number: int, at_least: float) -> Iterable[Measurement]:
    """Measure a row for both revisions in one round."""
    began, foreign_s = time.monotonic(), machine.foreign_cpu_s()
    measurements = {side: list(row.run(scopes[side])) for side in order(number)}
    foreign = (machine.foreign_cpu_s() - foreign_s) / (time.monotonic() - began) / machine.CORES
    for other, this in zip(measurements["other"], measurements["this"], strict=True):
        pair = Pair(other.value, this.value, 100 * foreign)
        utilisation = busier(other.utilisation, this.utilisation)
        yield Measurement(
            this.name,
            this.unit,
            ratio(this.unit, pair),
            Target(at_least, at_least=True),
            utilisation,
            pair,
        )


def ratio(unit: str, pair: Pair) -> float:
    """Return how much better this revision is: 1 means equal, 0.5 half as good."""
    return pair.this / pair.other if unit in MORE_IS_BETTER else pair.other / pair.this


def busier(*utilisation: Utilisation | None) -> Utilisation | None:
    """Return the utilisation with the busier fake."""
    known = [one for one in utilisation if one is not None]
    return max(known, key=lambda one: one.fake_percent, default=None)


class Comparison(Figure):
    """A figure of both revisions, whose values are ratios."""

    __slots__ = ()
    HEAD: ClassVar[tuple[str, ...]] = (
        "figure", "other", "this", "ratio", "least", "most", "runs", "bound",
        "busiest fake", "other processes",
    )  # fmt: skip

    @property
    def pairs(self) -> list[Pair]:
        """The values of both revisions, one pair per round."""
        return [measurement.pair for measurement in self.measurements if measurement.pair]

    @property
    def medians(self) -> tuple[float, float]:
        """The medians of the other revision and of this one."""
        others, own = zip(*((pair.other, pair.this) for pair in self.pairs), strict=True)
        return statistics.median(others), statistics.median(own)

    @property
    def foreign(self) -> str:
        """The share of all cores that other processes used, with a warning if it is too large."""
        percent = statistics.median(pair.foreign_percent for pair in self.pairs)
        return f"{percent:.0f} %" + (" **too busy**" if percent > FOREIGN_PERCENT else "")

    @override
    def cells(self) -> tuple[str, ...]:
        ratios = (f"{value:.3f}" for value in (self.median, min(self.values), max(self.values)))
        name = f"{self.name} ({self.measurements[0].unit})"
        runs = str(len(self.values))
        return (
            name,
            *rounded(*self.medians),
            *ratios,
            runs,
            self.target_result,
            self.fake,
            self.foreign,
        )

    @override
    def as_json(self) -> dict[str, object]:
        other, this = self.medians
        return {
            "name": self.name,
            "unit": self.measurements[0].unit,
            "other": other,
            "this": this,
            "ratio": self.median,
            "ratios": self.values,
            "pairs": [(pair.other, pair.this) for pair in self.pairs],
            "bound": str(self.measurements[0].target),
            "met": self.met,
            "busiest_fake": self.fake,
            "other_processes": self.foreign,
        }
