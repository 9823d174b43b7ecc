"""A short run of the random test; `make torture` runs it for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.torture import torture


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_whatever_dies_meanwhile(tmp_path: Path, seed: int) -> None:
    torture(seed, 1.0, tmp_path)
