"""Runs all steps in rounds; a failed step does not stop the others."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console

from bench import comparison, free, idle, live_edits, memory, scaling, slowest
from bench.measurement import Step
from bench.report import Results
from bench.scope import Scope

MEASURES = slowest, free, live_edits, idle, comparison, memory, scaling


@dataclass(frozen=True, slots=True)
class RoundStep:
    """A step in one round.

    Attributes:
        number: Number of the round; the first is 1.
        step: The step.
    """

    number: int
    step: Step


def all_steps(scope: Scope) -> list[Step]:
    """Return the steps of all measures."""
    return [step for measure in MEASURES for step in measure.steps(scope)]


def round_steps(steps: Sequence[Step], runs: Mapping[str, int]) -> list[RoundStep]:
    """Return all steps round by round, so that a disturbance affects all figures equally."""
    rounds = max((runs.get(step.measure, 1) for step in steps), default=0)
    return [
        RoundStep(number, step)
        for number in range(1, rounds + 1)
        for step in steps
        if number <= runs.get(step.measure, 1)
    ]


def run(
    given: Sequence[RoundStep], results: Results, console: Console, limit_s: float = math.inf
) -> bool:
    """Measure; return whether no step failed.

    Args:
        given: The steps, in order.
        results: Receives the measurements and the failures.
        console: Shows the progress.
        limit_s: Seconds after which only figures without a value are measured.
    """
    good, ends = True, time.monotonic() + limit_s
    for position, (entry, left_s) in enumerate(_timed(given), 1):
        title = f"round {entry.number}: {entry.step.title}"
        if entry.number > 1 and time.monotonic() + entry.step.seconds > ends:
            results.notes.append(f"Omitted because the time was up: {title}.")
            continue
        console.print(f"{position}/{len(given)}, {_minutes(left_s)} left: {title}", style="dim")
        try:
            for measurement in entry.step.run():
                results.add(measurement)
        except Exception as error:  # noqa: BLE001 - the other steps still run
            good = False
            results.notes.append(f"FAILED: {title}: {_first_line(error)}")
            console.print(f"FAILED: {title}", style="bold red")
            console.print(traceback.format_exc(), markup=False, highlight=False)
    return good


def _timed(given: Sequence[RoundStep]) -> Iterator[tuple[RoundStep, float]]:
    """Return each step with the estimated seconds from its beginning to the end of all steps."""
    expected_s = [entry.step.seconds for entry in given]
    began = time.monotonic()
    for index, entry in enumerate(given):
        done_s = sum(expected_s[:index])
        factor = (time.monotonic() - began) / done_s if done_s else 1.0
        yield entry, factor * sum(expected_s[index:])


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
