"""The real program as a process of its own, for tests: started, watched, stopped, killed."""

from __future__ import annotations

import functools
import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
"""Of the environment of the tests; settings that somebody has set must not reach the worker."""
BYTEWAX_RUN = ("-m", "bytewax.run", "dataflow.main")
PORTS = range(10_000, 20_000)
"""Below those that the system takes for connections and for servers that ask for any."""
PORTS_A_TURN = 4
START_S = 60.0
SNAPSHOT_S = 1
"""A short interval, so that a kill repeats little and tests are quick."""


def passed_on() -> dict[str, str]:
    """What of the tests' environment the program is given."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def free_port(in_a_row: int = 1) -> int:
    """A port that nobody listens on, and that no server is given which asks for any.

    What one call gave, no other gives, here or in a neighbour of a parallel run, before all have
    had their turn: two drawn at random are the same once in some thousand starts.

    Args:
        in_a_row: How many to have: the first is told, the others follow it.
    """
    assert in_a_row <= PORTS_A_TURN
    while True:
        first = next(_ports())
        with ExitStack() as probes, suppress(OSError):
            for port in range(first, first + in_a_row):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


@functools.cache
def _ports() -> Iterator[int]:
    neighbours = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ours = PORTS[::PORTS_A_TURN][number::neighbours]
    return itertools.cycle(random.SystemRandom().sample(ours, len(ours)))


def create_store(directory: Path) -> Path:
    """Make a recovery store: a copy of an empty one, since to make one costs a process."""
    shutil.copytree(_empty_store().name, directory)
    return directory


@functools.cache
def _empty_store() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory(prefix="empty-store-")
    command = [sys.executable, "-m", "bytewax.recovery", made.name, "2"]
    subprocess.run(command, check=True, timeout=START_S)
    return made


class Worker:
    """One process of the program.

    Args:
        directory: Its working directory, where its log is kept; no `.env` should be there.
        settings: Its settings.
        arguments: Further arguments of `bytewax.run`.
        code: Python to run before the program, in its process: to make it another version.
        program: What runs it, if not `bytewax.run`.

    Attributes:
        status_port: Where its status port is.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str],
        arguments: Sequence[str] = (),
        *,
        code: str = "",
        program: Sequence[str] = BYTEWAX_RUN,
    ) -> None:
        self.status_port = int(settings.get("STATUS_PORT", "0"))
        environment = passed_on() | {"PYTHONPATH": str(ROOT), **settings}
        number = len(list(directory.glob("worker-*.log")))
        self._path = directory / f"worker-{number}.log"
        if code:
            rest = "import runpy; runpy.run_module('bytewax.run', None, '__main__', True)"
            program = ["-c", f"{code}\n{rest}", *BYTEWAX_RUN[2:]]
        with self._path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, *program, *arguments],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._path.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def has_begun(self) -> bool:
        """Whether it has got as far as to look for its topic; in a cluster, all have met then."""
        return "topic=" in self.log.partition("rag=")[2]

    @property
    def is_ordinary_end(self) -> bool:
        """Whether it ended by itself, with 0."""
        return self._process.poll() == 0

    def wait_for(self, pattern: str, within_s: float = START_S) -> re.Match[str]:
        """Wait until a regular expression is found in its log.

        Raises:
            AssertionError: It was not found in time, or the process ended without.
        """
        give_up = time.monotonic() + within_s
        while True:
            ended = not self.is_running
            if found := re.search(pattern, self.log):
                return found
            assert not ended, f"ended with {self._process.returncode}, {pattern!r} never came"
            assert time.monotonic() < give_up, f"{pattern!r} did not come in {within_s:.0f} s"
            time.sleep(0.01)

    def wait_started(self) -> Worker:
        """Wait until it has found the topic."""
        self.wait_for(r"topic=\S+ partitions=")
        return self

    def status(self) -> dict[str, Any]:
        """What `/status.json` says."""
        answer = httpx.get(f"http://127.0.0.1:{self.status_port}/status.json", timeout=10)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def metrics(self) -> str:
        """What `/metrics` says."""
        return httpx.get(f"http://127.0.0.1:{self.status_port}/metrics", timeout=10).text

    def metric(self, name: str) -> float:
        """The value of a metric without labels."""
        found = re.search(rf"^{name} (\S+)$", self.metrics(), re.MULTILINE)
        assert found, name
        return float(found[1])

    def stalled(self) -> set[str]:
        """Names of the services that the status port says are waited for."""
        return {stall["service"] for stall in self.status()["stalls"]}

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, within_s: float = START_S) -> int:
        """Wait for its end; returns its exit code.

        Raises:
            AssertionError: It has not ended in time.
        """
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s:.0f} s") from None

    def stop(self, within_s: float = 30.0) -> None:
        """End it by SIGTERM, the ordinary way.

        Raises:
            AssertionError: It does not end in time, or not with 0.
        """
        self.wait_for("starting")  # until then it cannot have taken over the signals
        self.signal()
        code = self.wait(within_s)
        assert code == 0, f"ended with {code}"

    def kill(self) -> None:
        """End it as a power failure would."""
        self._process.kill()
        self._process.wait()
