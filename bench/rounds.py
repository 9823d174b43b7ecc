"""The steps of a run in order, with what is left of it; one that fails does not end the others."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from bench import comparison, free, idle, live_edits, memory, scaling, slowest
from bench.reading import Step
from bench.report import Results
from bench.scope import Scope

MEASURES = slowest, free, live_edits, idle, comparison, memory, scaling


@dataclass(frozen=True, slots=True)
class Turn:
    """A step's turn in one round.

    Attributes:
        number: The round, from 1.
        step: The step.
    """

    number: int
    step: Step


def all_steps(scope: Scope) -> list[Step]:
    """What there is to measure."""
    return [step for measure in MEASURES for step in measure.steps(scope)]


def turns(steps: Sequence[Step], runs: Mapping[str, int]) -> list[Turn]:
    """All steps round by round, so that a disturbance falls on all figures alike."""
    most = max((runs.get(step.measure, 1) for step in steps), default=0)
    return [
        Turn(number, step)
        for number in range(1, most + 1)
        for step in steps
        if number <= runs.get(step.measure, 1)
    ]


def run(
    given: Sequence[Turn], results: Results, console: Console, limit_s: float = math.inf
) -> bool:
    """Measure all of it; returns whether nothing failed.

    Args:
        given: What there is to do, in order.
        results: Where the values go, and what failed.
        console: Where it is told how things go.
        limit_s: Seconds after which figures that have a value get no further one.
    """
    good, ends = True, time.monotonic() + limit_s
    for place, (turn, left_s) in enumerate(_timed(given), 1):
        title = f"round {turn.number}: {turn.step.title}"
        if turn.number > 1 and time.monotonic() + turn.step.seconds > ends:
            results.notes.append(f"Left out for want of time: {title}.")
            continue
        console.print(f"{place}/{len(given)}, {_minutes(left_s)} left: {title}", style="dim")
        try:
            for reading in turn.step.run():
                results.add(reading)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are still wanted
            good = False
            results.notes.append(f"FAILED: {title}: {_first_line(error)}")
            console.print(f"FAILED: {title}", style="bold red")
            console.print(traceback.format_exc(), markup=False, highlight=False)
    return good


def _timed(given: Sequence[Turn]) -> Iterator[tuple[Turn, float]]:
    """Each turn with the seconds from its beginning to the end of all, as things go so far."""
    expected_s = [turn.step.seconds for turn in given]
    began = time.monotonic()
    for place, turn in enumerate(given):
        done_s = sum(expected_s[:place])
        throughput = (time.monotonic() - began) / done_s if done_s else 1.0
        yield turn, throughput * sum(expected_s[place:])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
