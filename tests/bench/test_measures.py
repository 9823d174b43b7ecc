"""Some measures of the benchmark in the smallest scope, to check that they run.

`python -m bench --tiny` runs all measures like this, in five minutes.
"""

from __future__ import annotations

import math

import pytest

from bench import rounds
from bench.scope import TINY

STEPS = {step.measure: step for step in reversed(rounds.all_steps(TINY))}


@pytest.mark.parametrize("measure", ["slowest", "floor", "loaded"])
def test_a_measure_runs(measure: str) -> None:
    measurements = list(STEPS[measure].run())
    assert measurements
    assert all(math.isfinite(measurement.value) for measurement in measurements)
