"""How Bytewax was started: workers, processes, recovery store.

`flow()` is told nothing of `-w`, `-i`, `-a`, `-r`; they are read here from the command line and the
BYTEWAX_* variables, the way `bytewax.run` reads them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

DEFAULT_SNAPSHOT_S = 10
"""Bytewax's own epoch length where no snapshot interval is given."""


class LaunchError(Exception):
    """Bytewax was started in a way that cannot work; `str()` is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One process of the stream, as it was started.

    Attributes:
        workers: Worker threads in this process.
        process_id: This process's place in `addresses`.
        addresses: `host:port` of every process of the cluster; empty for one process alone.
        recovery_dir: Where the recovery store is, or None without one.
        snapshot_seconds: Length of an epoch.
        backup_seconds: How long snapshots are kept after they are superseded.
        is_program: Whether the process is `bytewax.run`'s, and not a test's or a tool's.
    """

    workers: int = 1
    process_id: int = 0
    addresses: tuple[str, ...] = ()
    recovery_dir: Path | None = None
    snapshot_seconds: int = DEFAULT_SNAPSHOT_S
    backup_seconds: int = 0
    is_program: bool = field(default=False, compare=False)

    @property
    def process_count(self) -> int:
        """How many processes run the stream together."""
        return max(1, len(self.addresses))

    @property
    def is_cluster(self) -> bool:
        """Whether other processes run the stream, too."""
        return self.process_count > 1

    @property
    def has_worker_threads(self) -> bool:
        """Whether workers have threads of their own; else the only one is the main thread."""
        return self.workers > 1 or bool(self.addresses)

    @property
    def worker_count(self) -> int:
        """Worker threads of all processes, if all were started with as many as this one."""
        return self.workers * self.process_count

    @property
    def status_port_offset(self) -> int:
        """How many processes with a lower number are on this one's host."""
        hosts = [address.rpartition(":")[0].lower() for address in self.addresses]
        return hosts[: self.process_id].count(hosts[self.process_id]) if hosts else 0


def launch(argv: Sequence[str], environ: Mapping[str, str]) -> Launch:
    """Read how this process was started.

    Args:
        argv: The whole command line, `sys.argv`; another program than `bytewax.run` (a test, a
            tool) counts as one process with one worker and no store.
        environ: The environment.

    Raises:
        LaunchError: The arguments contradict each other.
    """
    if Path(argv[0]).parts[-2:] != ("bytewax", "run.py"):
        return Launch()
    given = _parser(environ).parse_args(argv[1:])
    process_id = given.process_id if given.process_id is not None else _pod_number(environ)
    addresses = _addresses(given.addresses, process_id, environ)
    if given.recovery_dir is not None and None in (given.snapshot_s, given.backup_s):
        raise LaunchError("with -r DIR, -s SECONDS and -b SECONDS are needed, too; add them")
    started = Launch(
        workers=1 if given.workers is None else given.workers,
        process_id=process_id or 0,
        addresses=addresses,
        recovery_dir=given.recovery_dir,
        snapshot_seconds=_snapshot_s(given.snapshot_s, given.recovery_dir),
        backup_seconds=given.backup_s or 0,
        is_program=True,
    )
    _check(started)
    return started


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LaunchError(f"bytewax.run cannot be started like this: {message}")


def _parser(environ: Mapping[str, str]) -> _Parser:
    """Return `bytewax.run`'s parser: its options, and its variables as their defaults."""
    parser = _Parser(prog="python -m bytewax.run")
    parser.add_argument("import_str")
    for short, name, dest, kind in (
        ("-r", "recovery-directory", "recovery_dir", Path),
        ("-s", "snapshot-interval", "snapshot_s", int),
        ("-b", "backup-interval", "backup_s", int),
        ("-w", "workers-per-process", "workers", int),
        ("-i", "process-id", "process_id", int),
        ("-a", "addresses", "addresses", str),
    ):
        variable = "BYTEWAX_" + name.upper().replace("-", "_")
        variable = variable.replace("BACKUP", "RECOVERY_BACKUP")
        default = environ.get(variable)
        parser.add_argument(short, f"--{name}", dest=dest, type=kind, default=default)
    return parser


def _pod_number(environ: Mapping[str, str]) -> int | None:
    """Return the process id that a StatefulSet's pod has by its name."""
    pod, stateful_set = environ.get("BYTEWAX_POD_NAME"), environ.get("BYTEWAX_STATEFULSET_NAME")
    if pod is None or stateful_set is None:
        return None
    number = pod.replace(f"{stateful_set}-", "")
    try:
        return int(number)
    except ValueError:
        raise LaunchError(
            f"BYTEWAX_POD_NAME is {pod!r}, which is not {stateful_set}-NUMBER; correct it, "
            "or BYTEWAX_STATEFULSET_NAME"
        ) from None


def _addresses(
    given: str | None, process_id: int | None, environ: Mapping[str, str]
) -> tuple[str, ...]:
    if given is not None:
        return tuple(given.split(";"))
    if process_id is None:
        return ()
    path = environ.get("BYTEWAX_HOSTFILE_PATH")
    if path is None:
        raise LaunchError("with -i NUMBER, -a ADDRESSES is needed, too; add it")
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise LaunchError(f"BYTEWAX_HOSTFILE_PATH {path} cannot be read: {error}") from None
    return tuple(";".join(line.strip() for line in lines if line.strip()).split(";"))


def _snapshot_s(given: int | None, recovery_dir: Path | None) -> int:
    if recovery_dir is None:
        return given or DEFAULT_SNAPSHOT_S
    return given if given is not None else DEFAULT_SNAPSHOT_S


def _check(started: Launch) -> None:
    """Refuse what Bytewax takes and then waits on for ever."""
    if started.workers < 1:
        raise LaunchError(f"-w is {started.workers}; give at least one worker")
    if "" in started.addresses:
        raise LaunchError("-a has an empty address; write host:port;host:port")
    if not 0 <= started.process_id < started.process_count:
        count = started.process_count
        raise LaunchError(
            f"-i is {started.process_id}, but -a has {count} address{'es' * (count > 1)}: "
            f"give a number from 0 to {count - 1}, or more addresses"
        )
