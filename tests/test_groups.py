"""Every test in tests/real runs in CI, which runs them by groups."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def ci_groups() -> list[str]:
    """The groups whose services tests/services/run knows; CI runs each of them."""
    run = ROOT / "tests" / "services" / "run"
    done = subprocess.run([str(run), "groups"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in done.stdout.splitlines()]


def test_every_test_of_a_real_service_is_in_one_group():
    groups = ci_groups()
    two = [f"({one} and {other})" for one, other in combinations(groups, 2)]
    wrong = " or ".join([f"not ({' or '.join(groups)})", *two])
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", "-q"]
    done = subprocess.run(
        [*command, "tests/real", "-m", wrong], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout
    assert "deselected" in done.stdout
