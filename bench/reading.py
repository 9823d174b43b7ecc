"""One measured value, and the step of a round that measures some."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


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

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Around:
    """What else the machine did meanwhile.

    Attributes:
        fake: The stand-in that used most CPU.
        stand_in_percent: How much of the one core that it can use.
        machine_percent: How much of all cores was used, by whomever.
    """

    fake: str
    stand_in_percent: float
    machine_percent: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of each of two revisions, measured one right after the other.

    Attributes:
        other: The other revision's.
        this: This revision's.
        foreign_percent: How much of all cores processes used meanwhile that are not of the bench.
    """

    other: float
    this: float
    foreign_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """A value.

    Attributes:
        name: What was measured.
        unit: Its unit.
        value: How much.
        target: What it should be, if anybody said.
        around: What else went on, where that could have been the limit.
        pair: What was measured, where the value is the ratio of two revisions.
    """

    name: str
    unit: str
    value: float
    target: Target | None = None
    around: Around | None = None
    pair: Pair | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """What is measured in one go.

    Attributes:
        measure: Its name for `--only`.
        title: What is shown while it runs.
        seconds: How long it takes on two cores, about.
        run: Measures; what it has given counts even where it then fails.
    """

    measure: str
    title: str
    seconds: float
    run: Callable[[], Iterable[Measurement]]
