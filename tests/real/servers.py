"""Servers that the tests may end and start again, where TEST_* variables say how."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from tests.eventually import eventually

START_S = 120.0
END_S = 30.0
PID = re.compile(r"\bpid=(\d+)")


def given(name: str) -> str:
    """A TEST_* variable's value; the test is skipped where it has none."""
    if not (value := os.environ.get(name, "")):
        pytest.skip(f"{name} is not set")
    return value


class Server:
    """A server's process.

    Args:
        pid: Its process id.
        restart: The command that starts it again, waits until it answers, and prints `pid=NUMBER`;
            while it runs, the command only prints that.
    """

    def __init__(self, pid: int, restart: str) -> None:
        self._restart = shlex.split(restart)
        self.pid = pid if _stat(Path(f"/proc/{pid}"))[0] not in "ZX" else self.start()

    def start(self) -> int:
        """Start it; returns its process id.

        A broker that was killed just after its start is refused by its own memory for some
        seconds, so a start that fails is tried once more.
        """
        try:
            done = self._run()
        except subprocess.CalledProcessError:
            done = self._run()
        found = PID.findall(done.stdout)
        assert found, f"{self._restart} did not print pid=NUMBER"
        self.pid = int(found[-1])
        return self.pid

    def _run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._restart, stdout=subprocess.PIPE, text=True, check=True, timeout=START_S
        )

    def end(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal that ends it, and wait until it has."""
        os.kill(self.pid, number)
        eventually(lambda: _stat(Path(f"/proc/{self.pid}"))[0] in "ZX", END_S)

    def children(self) -> list[int]:
        """Ids of the processes that it has started and that still run."""
        processes = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return [int(process.name) for process in processes if _stat(process)[1] == self.pid]


class Connector:
    """Debezium's connector.

    Args:
        restart: The command that ends it, starts it with its usual properties and those given as
            NAME=VALUE arguments, and waits until it answers.
    """

    def __init__(self, restart: str) -> None:
        self._restart = shlex.split(restart)

    def restart(self, *properties: str) -> None:
        """Start it again."""
        done = subprocess.run(
            [*self._restart, *properties],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def _stat(process: Path) -> tuple[str, int]:
    """State and parent of a process; `X` where it is gone."""
    try:
        state, parent = (process / "stat").read_text().rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return "X", 0
    return state, int(parent)
