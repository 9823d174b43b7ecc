"""Measures of the bench, so small that they only show whether they still run.

`python -m bench --tiny` does the same with all of them, in five minutes.
"""

from __future__ import annotations

import math

import pytest

from bench import rounds
from bench.scope import TINY

STEPS = {step.measure: step for step in reversed(rounds.all_steps(TINY))}


@pytest.mark.parametrize("measure", ["slowest", "floor", "loaded"])
def test_a_measure_runs(measure: str) -> None:
    readings = list(STEPS[measure].run())
    assert readings
    assert all(math.isfinite(reading.value) for reading in readings)
