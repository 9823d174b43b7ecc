"""A short run of random faults; `make torture` runs longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.random_faults import run_random_faults


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_faults_and_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    run_random_faults(seed, 1.0, tmp_path)
