"""A program under measurement: a process of its own, watched from outside through /proc."""

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
"""`CPUCLOCK_SCHED` of Linux: what the scheduler counts, in nanoseconds."""


class Program:
    """A started process; ended at the end of a `with`.

    Args:
        arguments: What follows `python`, such as `["-m", "bench.peers.one_by_one"]`.
        settings: Environment variables beside this process's own.
        directory: Where it runs; removed at the end.
        checkout: The revision that it is of.
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
        """See that it lives.

        Raises:
            RuntimeError: It has ended; the text holds its last lines.
        """
        if (code := self._process.poll()) is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-20:]
            raise RuntimeError("\n".join([f"the program ended with {code}:", *lines]))

    def cpu_s(self) -> float:
        """Seconds of CPU of all its threads, user and system.

        By the process's CPU clock: /proc counts in steps of 10 ms, and an idle stream takes a
        dozen of them in the time that it is watched.
        """
        return time.clock_gettime(~self._process.pid << 3 | PROCESS_CPU_CLOCK)

    def resident_bytes(self) -> int:
        """Its resident set."""
        return int(self._proc("statm").split()[1]) * PAGE_BYTES

    def stop(self) -> float:
        """Ask it to end, and wait; returns the seconds that it took."""
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
        """Ask it to end."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> str:
        """Wait for its own end; returns what it wrote."""
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
    """This process's environment without Python's own settings.

    With PYTHONDONTWRITEBYTECODE a new checkout would compile all its modules at each start.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


class Processes:
    """The processes of a cluster, as one program.

    Args:
        processes: They.
    """

    def __init__(self, processes: Sequence[Program]) -> None:
        self._processes = processes

    def check(self) -> None:
        """See that all live.

        Raises:
            RuntimeError: One has ended.
        """
        for process in self._processes:
            process.check()

    def cpu_s(self) -> float:
        """Seconds of CPU of all of them."""
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
    """The stream itself, as its users start it, with a recovery store of its own."""
    directory = _directory()
    store = _store(directory, checkout)
    return Program(_run(workers, store), settings, directory, checkout)


def cluster(
    settings: Mapping[str, str], *, processes: int, workers: int, checkout: Checkout = THIS
) -> Processes:
    """The same as several processes on one recovery store."""
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
    """One of `bench.peers` that is a plain program."""
    return Program(["-m", f"bench.peers.{name}"], settings, _directory())


def peer_flow(name: str, settings: Mapping[str, str], *, workers: int = 1) -> Program:
    """One of `bench.peers` that is a Bytewax flow; without a store, which is in its favour."""
    run = ["-m", "bytewax.run", f"bench.peers.{name}", "-w", str(workers)]
    return Program(run, settings, _directory())


def _directory() -> Path:
    """An empty one, so that no `.env` of a user's is read."""
    return Path(tempfile.mkdtemp(prefix="gibsey-bench-"))
