"""compose.yaml, taken by the library of `docker compose`: TEST_COMPOSE_CHECK FILE loads one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.deploy.stack import ROOT, STACK, Stack, example_settings

CHECK = os.environ.get("TEST_COMPOSE_CHECK", "")
WORKERS = ("worker", "worker-0", "worker-1")

pytestmark = [
    pytest.mark.real,
    pytest.mark.deploy,
    pytest.mark.skipif(not CHECK, reason="TEST_COMPOSE_CHECK names no program"),
]


def taken(folder: Path, dotenv: Mapping[str, str]) -> Stack:
    """The stack as the library resolves it, with such a `.env` beside the file.

    It reads `.env` for the containers; for `${NAME}` in the file its caller does, which TEST_COMPOSE_CHECK
    leaves out: so the variables are in the environment, too.
    """
    shutil.copy(ROOT / "compose.yaml", folder)
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in dotenv.items()))
    done = subprocess.run(
        [CHECK, folder / "compose.yaml"],
        env={**os.environ, **dotenv},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return Stack(done.stdout)


def test_docker_compose_takes_the_file_and_brings_up_the_same_services(tmp_path):
    stack = taken(tmp_path, {})
    assert stack.services.keys() == STACK.services.keys()
    for worker in WORKERS:
        assert stack.brought_up(worker) == STACK.brought_up(worker)
        assert stack.environment(worker) == STACK.environment(worker)


def test_env_reaches_the_container_as_the_other_tests_take_it_to(tmp_path):
    dotenv = {name: f"my {name}" for name in example_settings()}
    stack = taken(tmp_path, dotenv)
    for worker in WORKERS:
        assert stack.environment(worker) == STACK.environment(worker, dotenv)
