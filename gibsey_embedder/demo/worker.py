"""The real worker in a process of its own, with the demo's settings."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import dataflow
from dataflow.config.settings import Settings
from gibsey_embedder.fakes.process import stop_process

ROOT = Path(dataflow.__file__).parent.parent
STATUS_PORT = 6066
RECOVERY_PARTITIONS = 2
STOP_TIMEOUT_S = 20.0


class Worker:
    """`python -m bytewax.run dataflow.main -w 2` with a recovery store.

    Args:
        directory: The directory of the recovery store and the log.
        settings: The worker's settings.
        kept: Prefixes of the settings in the environment that the worker uses too.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, str], kept: tuple[str, ...] = ()
    ) -> None:
        self._directory = directory
        self.log = directory / "worker.log"
        self.status_port = free_port(STATUS_PORT)
        self._settings = {**settings, "STATUS_PORT": str(self.status_port)}
        self._environment = _clean_environment(kept) | self._settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def status_url(self) -> str:
        """The URL of the status page."""
        return f"http://127.0.0.1:{self.status_port}/"

    def start(self) -> None:
        """Create the recovery store, if necessary, and start the worker."""
        store = self._directory / "recovery"
        if not store.exists():
            store.mkdir(mode=0o700)
            create = [sys.executable, "-m", "bytewax.recovery", str(store)]
            create.append(str(RECOVERY_PARTITIONS))
            subprocess.run(create, env=self._environment, cwd=self._directory, check=True)
        options = ["-w", "2", "-r", str(store), "-s", "5", "-b", "0"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bytewax.run", "dataflow.main", *options],
                env=self._environment,
                cwd=self._directory,  # the demo must not read a .env in the current directory
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must reach only the demo, which stops the worker
            )

    def write_settings(self) -> Path:
        """Write the settings to a `.env`, and return its directory, in which commands use it."""
        lines = [f"{name}='{value}'\n" for name, value in self._settings.items()]
        (self._directory / ".env").write_text("".join(lines), encoding="utf-8")
        return self._directory

    def exit_code(self) -> int | None:
        """Return the exit code; None while the worker runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> int:
        """Stop the worker with SIGTERM, as a deployment does; return its exit code."""
        return 0 if self._process is None else stop_process(self._process, STOP_TIMEOUT_S)

    def last_lines(self, count: int = 15) -> str:
        """Return the last lines of the log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


def free_port(preferred: int) -> int:
    """Return the preferred port if it is free, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def _clean_environment(kept: tuple[str, ...]) -> dict[str, str]:
    settings = {name.upper() for name in Settings.model_fields}
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(kept)
        or not (
            name in settings
            or name.removesuffix("_FILE") in settings
            or name.startswith("BYTEWAX_")
        )
    }
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}
