"""A program under measurement: a process of its own, observed through /proc."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bench.checkout import THIS, Checkout
from gibsey_embedder.demo.worker import free_port

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STOP_TIMEOUT_S = 30.0
PROCESS_CPU_CLOCK = 2
"""Linux' `CPUCLOCK_SCHED`: the scheduler's count, in nanoseconds."""


class Program:
    """A running process, which `with` stops.

    Args:
        arguments: The arguments of `python`, such as `["-m", "bench.peers.one_by_one"]`.
        settings: Environment variables in addition to this process's own.
        directory: Working directory; removed at the end.
        checkout: The revision to run.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        settings: Mapping[str, str],
        directory: Path,
        checkout: Checkout = THIS,
    ) -> None:
        self._directory = directory
        self._log = directory / "program.log"
        environment = {**_clean_environment(), "PYTHONPATH": str(checkout.directory), **settings}
        self.started_at = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(checkout.python), *arguments],
                env=environment,
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def check(self) -> None:
        """Check that the process runs.

        Raises:
            RuntimeError: The process has ended; `str()` has its last lines.
        """
        if (code := self._process.poll()) is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-20:]
            raise RuntimeError("\n".join([f"the program ended with {code}:", *lines]))

    def cpu_s(self) -> float:
        """Return the CPU seconds of all threads, user and system.

        The process's CPU clock is exact. The 10 ms steps of /proc would be too coarse for an idle
        stream.
        """
        return time.clock_gettime(~self._process.pid << 3 | PROCESS_CPU_CLOCK)

    def resident_bytes(self) -> int:
        """Return the resident set."""
        return int(self._proc("statm").split()[1]) * PAGE_BYTES

    def stop(self) -> float:
        """Send SIGTERM and wait; return the seconds until the end."""
        began = time.monotonic()
        if self._process.poll() is None:
            self.send_stop()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return time.monotonic() - began

    def send_stop(self) -> None:
        """Send SIGTERM."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> str:
        """Wait until the process ends by itself; return its output."""
        self._process.wait()
        return self._log.read_text(errors="replace")

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text(encoding="utf-8")

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


def _clean_environment() -> dict[str, str]:
    """Return the environment without Python's own settings.

    With PYTHONDONTWRITEBYTECODE, a new checkout would compile all modules at each start.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class Processes:
    """The processes of a cluster, as one program.

    Args:
        processes: The processes.
    """

    def __init__(self, processes: Sequence[Program]) -> None:
        self._processes = processes

    def check(self) -> None:
        """Check that all processes run.

        Raises:
            RuntimeError: A process has ended.
        """
        for process in self._processes:
            process.check()

    def cpu_s(self) -> float:
        """Return the CPU seconds of all processes."""
        return sum(process.cpu_s() for process in self._processes)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.send_stop()
        for process in self._processes:
            process.__exit__(kind, error, trace)


def stream(settings: Mapping[str, str], *, workers: int = 1, checkout: Checkout = THIS) -> Program:
    """Start the stream like a user, with a recovery store."""
    directory = _directory()
    store = _store(directory, checkout)
    return Program(_run(workers, store), settings, directory, checkout)


def cluster(
    settings: Mapping[str, str], *, processes: int, workers: int, checkout: Checkout = THIS
) -> Processes:
    """Start the stream as several processes with one recovery store."""
    store = _store(_directory(), checkout)
    ports = [free_port(0) for _ in range(processes)]
    addresses = ";".join(f"127.0.0.1:{port}" for port in ports)
    return Processes(
        [
            Program(
                [*_run(workers, store), "-i", str(number), "-a", addresses],
                settings,
                _directory(),
                checkout,
            )
            for number in range(processes)
        ]
    )


def _run(workers: int, store: Path) -> list[str]:
    run = ["-m", "bytewax.run", "dataflow.main", "-w", str(workers)]
    return [*run, "-r", str(store), "-s", "5", "-b", "0"]


def _store(directory: Path, checkout: Checkout) -> Path:
    store = directory / "recovery"
    store.mkdir()
    subprocess.run([str(checkout.python), "-m", "bytewax.recovery", str(store), "4"], check=True)
    return store


def peer(name: str, settings: Mapping[str, str]) -> Program:
    """Start a module of `bench.peers`."""
    return Program(["-m", f"bench.peers.{name}"], settings, _directory())


def peer_flow(name: str, settings: Mapping[str, str], *, workers: int = 1) -> Program:
    """Start a Bytewax flow of `bench.peers`, without a store, which makes it faster."""
    run = ["-m", "bytewax.run", f"bench.peers.{name}", "-w", str(workers)]
    return Program(run, settings, _directory())


def _directory() -> Path:
    """Create an empty directory, so that the program reads no `.env`."""
    return Path(tempfile.mkdtemp(prefix="gibsey-bench-"))
