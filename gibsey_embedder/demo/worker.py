"""The real worker, as its own process, with the demo's settings."""

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
        directory: Where the recovery store and the log go.
        settings: Variables for the worker; the caller's own settings are kept from it, but for
            those that begin with one of `kept`.
        kept: Beginnings of the names of settings that the worker takes over from the caller.
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
        """Where its status page is."""
        return f"http://127.0.0.1:{self.status_port}/"

    def start(self) -> None:
        """Makes the recovery store, if it is missing, and starts the worker."""
        store = self._directory / "recovery"
        if not store.exists():
            store.mkdir(mode=0o700)
            make = [sys.executable, "-m", "bytewax.recovery", str(store), str(RECOVERY_PARTITIONS)]
            subprocess.run(make, env=self._environment, cwd=self._directory, check=True)
        options = ["-w", "2", "-r", str(store), "-s", "5", "-b", "0"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bytewax.run", "dataflow.main", *options],
                env=self._environment,
                cwd=self._directory,  # a .env of the caller's directory is not the demo's
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the demo alone, which ends it in order
            )

    def keep_settings(self) -> Path:
        """Writes its settings to a `.env`; commands that are run in that directory use them."""
        lines = [f"{name}='{value}'\n" for name, value in self._settings.items()]
        (self._directory / ".env").write_text("".join(lines), encoding="utf-8")
        return self._directory

    def exit_code(self) -> int | None:
        """Its exit code; None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> int:
        """Asks it to end, as a deployment would; returns its exit code."""
        return 0 if self._process is None else stop_process(self._process, STOP_TIMEOUT_S)

    def last_lines(self, count: int = 15) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


def free_port(wanted: int) -> int:
    """`wanted` if nothing listens there, else a free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
    raise OSError("no port is free on 127.0.0.1")


def _clean_environment(kept: tuple[str, ...]) -> dict[str, str]:
    ours = {name.upper() for name in Settings.model_fields}
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(kept)
        or not (name in ours or name.removesuffix("_FILE") in ours or name.startswith("BYTEWAX_"))
    }
    paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    return environment | {"PYTHONPATH": os.pathsep.join(paths)}
