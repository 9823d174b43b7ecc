"""The real program in a process of its own, for tests."""

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
"""Variables of the tests' environment for the worker; it must not get other settings."""
BYTEWAX_RUN = ("-m", "bytewax.run", "dataflow.main")
PORTS = range(10_000, 20_000)
"""Below the ports that the system assigns to connections and servers."""
PORTS_A_TURN = 4
START_S = 60.0
SNAPSHOT_S = 1
"""A short interval, so that a kill repeats little and tests are quick."""


def passed_on() -> dict[str, str]:
    """Return the variables of the tests' environment for the program."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def free_port(in_a_row: int = 1) -> int:
    """Return a free port that the system does not assign to other servers.

    No other call, also in a parallel test process, returns the same port before all ports
    were used. Two random ports would be equal once in some thousand starts.

    Args:
        in_a_row: Number of consecutive free ports; the first one is returned.
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
    """Create a recovery store as a copy of an empty one, which is faster than a process."""
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
        directory: The working directory, with the log; it should not contain a `.env`.
        settings: Its settings.
        arguments: Further arguments of `bytewax.run`.
        code: Python code that runs before the program, in the same process.
        program: The module to run; default: `bytewax.run`.

    Attributes:
        status_port: The status port.
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
        """The complete log."""
        return self._path.read_text(errors="replace")

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def has_begun(self) -> bool:
        """Whether it reads its topic; in a cluster, all processes are connected by then."""
        return "topic=" in self.log.partition("rag=")[2]

    @property
    def is_ordinary_end(self) -> bool:
        """Whether it ended by itself with exit code 0."""
        return self._process.poll() == 0

    def wait_for(self, pattern: str, within_s: float = START_S) -> re.Match[str]:
        """Wait until the log matches a regular expression.

        Raises:
            AssertionError: There is no match at the timeout or at the end of the process.
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
        """Wait until the process reads its topic."""
        self.wait_for(r"topic=\S+ partitions=")
        return self

    def status(self) -> dict[str, Any]:
        """Return `/status.json`."""
        answer = httpx.get(f"http://127.0.0.1:{self.status_port}/status.json", timeout=10)
        found: dict[str, Any] = answer.raise_for_status().json()
        return found

    def metrics(self) -> str:
        """Return `/metrics`."""
        return httpx.get(f"http://127.0.0.1:{self.status_port}/metrics", timeout=10).text

    def metric(self, name: str) -> float:
        """Return the value of a metric without labels."""
        found = re.search(rf"^{name} (\S+)$", self.metrics(), re.MULTILINE)
        assert found, name
        return float(found[1])

    def stalled(self) -> set[str]:
        """Return the services that stall the stream, from the status port."""
        return {stall["service"] for stall in self.status()["stalls"]}

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self, within_s: float = START_S) -> int:
        """Wait for the end of the process; return the exit code.

        Raises:
            AssertionError: The process still runs at the timeout.
        """
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within_s:.0f} s") from None

    def stop(self, within_s: float = 30.0) -> None:
        """Stop the process with SIGTERM.

        Raises:
            AssertionError: It does not end in time, or its exit code is not 0.
        """
        self.wait_for("starting")  # before that, it may not have installed its signal handlers
        self.signal()
        code = self.wait(within_s)
        assert code == 0, f"ended with {code}"

    def kill(self) -> None:
        """Kill the process, like a power failure."""
        self._process.kill()
        self._process.wait()
