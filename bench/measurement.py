"""A measured value, and the step of a round that measures values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a figure.

    Attributes:
        value: The limit.
        at_least: Whether the limit is a minimum.
    """

    value: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether a value meets the target."""
        return value >= self.value if self.at_least else value <= self.value

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Utilisation:
    """The CPU that was used during a measurement.

    Attributes:
        fake: The fake that used most CPU.
        fake_percent: Its share of the one core that it can use.
        machine_percent: The share of all cores that all processes used.
    """

    fake: str
    fake_percent: float
    machine_percent: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A value of each of two revisions, measured one after the other.

    Attributes:
        other: The other revision's value.
        this: This revision's value.
        foreign_percent: The share of all cores that processes outside the benchmark used.
    """

    other: float
    this: float
    foreign_percent: float = 0.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """A measured value.

    Attributes:
        name: The name of the figure.
        unit: The unit.
        value: The value.
        target: The target, or None.
        utilisation: The CPU that was used, if it could have been the limit.
        pair: The values of two revisions, if the value is their ratio.
    """

    name: str
    unit: str
    value: float
    target: Target | None = None
    utilisation: Utilisation | None = None
    pair: Pair | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a round, which measures one or several figures.

    Attributes:
        measure: The name for `--only`.
        title: The title on the terminal.
        seconds: Approximate duration on two cores.
        run: Measures; values before a failure count.
    """

    measure: str
    title: str
    seconds: float
    run: Callable[[], Iterable[Measurement]]
