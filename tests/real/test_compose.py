"""compose.yaml, taken by the library of `docker compose`: TEST_COMPOSE_CHECK FILE loads one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

CHECK = os.environ.get("TEST_COMPOSE_CHECK", "")
FILE = Path(__file__).parents[2] / "compose.yaml"

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not CHECK, reason="TEST_COMPOSE_CHECK names no program"),
]


def test_docker_compose_takes_the_file():
    done = subprocess.run([CHECK, FILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "worker-1:" in done.stdout
