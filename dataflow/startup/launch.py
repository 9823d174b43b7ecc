"""How Bytewax was started: workers, processes and recovery store.

Bytewax does not pass `-w`, `-i`, `-a` and `-r` to `flow()`. This module reads them from the command
line and from the BYTEWAX_* variables, as `bytewax.run` does.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

DEFAULT_SNAPSHOT_S = 10
"""Bytewax's default epoch length."""


class LaunchError(Exception):
    """Bytewax was started in a way that cannot work; `str()` is one line with the remedy."""


@dataclass(frozen=True, slots=True)
class Launch:
    """The command line of one process of the stream.

    Attributes:
        workers: Number of worker threads in this process.
        process_id: Index of this process in `addresses`.
        addresses: `host:port` of each process of the cluster; empty for a single process.
        recovery_dir: Directory of the recovery store, or None.
        snapshot_seconds: Length of an epoch.
        backup_seconds: How long the store keeps superseded snapshots.
        is_program: Whether this process runs `bytewax.run`, and not a test or a tool.
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
        """Number of processes in the cluster; 1 for a single process."""
        return max(1, len(self.addresses))

    @property
    def is_cluster(self) -> bool:
        """Whether the stream runs in several processes."""
        return self.process_count > 1

    @property
    def has_worker_threads(self) -> bool:
        """Whether workers have threads of their own; a single worker is the main thread."""
        return self.workers > 1 or bool(self.addresses)

    @property
    def worker_count(self) -> int:
        """Number of worker threads in all processes, if each has as many as this one."""
        return self.workers * self.process_count

    @property
    def status_port_offset(self) -> int:
        """Number of processes with a lower number on this process's host."""
        hosts = [address.rpartition(":")[0].lower() for address in self.addresses]
        return hosts[: self.process_id].count(hosts[self.process_id]) if hosts else 0


def parse_launch(argv: Sequence[str], environ: Mapping[str, str]) -> Launch:
    """Parse the command line and the environment of this process.

    Args:
        argv: The complete command line, `sys.argv`. Any program except `bytewax.run` (a test, a
            tool) counts as a single process with one worker and no store.
        environ: The environment.

    Raises:
        LaunchError: The arguments are invalid or contradict each other.
    """
    if Path(argv[0]).parts[-2:] != ("bytewax", "run.py"):
        return Launch()
    given = _parser(environ).parse_args(argv[1:])
    process_id = given.process_id if given.process_id is not None else _pod_number(environ)
    addresses = _addresses(given.addresses, process_id, environ)
    if given.recovery_dir is not None and None in (given.snapshot_s, given.backup_s):
        raise LaunchError("-r DIR needs -s SECONDS and -b SECONDS; add them")
    launch = Launch(
        workers=1 if given.workers is None else given.workers,
        process_id=process_id or 0,
        addresses=addresses,
        recovery_dir=given.recovery_dir,
        snapshot_seconds=_snapshot_s(given.snapshot_s, given.recovery_dir),
        backup_seconds=given.backup_s or 0,
        is_program=True,
    )
    _check(launch)
    return launch


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LaunchError(f"bytewax.run does not accept these arguments: {message}")


def _parser(environ: Mapping[str, str]) -> _Parser:
    """Return a parser with the options of `bytewax.run`; its variables are the defaults."""
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
    """Return the process id from the name of a StatefulSet's pod, or None outside of one."""
    pod, stateful_set = environ.get("BYTEWAX_POD_NAME"), environ.get("BYTEWAX_STATEFULSET_NAME")
    if pod is None or stateful_set is None:
        return None
    number = pod.replace(f"{stateful_set}-", "")
    try:
        return int(number)
    except ValueError:
        raise LaunchError(
            f"BYTEWAX_POD_NAME is {pod!r}, which is not {stateful_set}-NUMBER; correct it or "
            "BYTEWAX_STATEFULSET_NAME"
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
        raise LaunchError("-i NUMBER needs -a ADDRESSES; add it")
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise LaunchError(
            f"the file {path} of BYTEWAX_HOSTFILE_PATH cannot be read: {error}; correct the path"
        ) from None
    return tuple(";".join(line.strip() for line in lines if line.strip()).split(";"))


def _snapshot_s(given: int | None, recovery_dir: Path | None) -> int:
    if recovery_dir is None:
        return given or DEFAULT_SNAPSHOT_S
    return given if given is not None else DEFAULT_SNAPSHOT_S


def _check(launch: Launch) -> None:
    """Reject values that Bytewax accepts but hangs on."""
    if launch.workers < 1:
        raise LaunchError(f"-w is {launch.workers}; set it to 1 or more")
    if "" in launch.addresses:
        raise LaunchError("-a has an empty address; write host:port;host:port")
    if not 0 <= launch.process_id < launch.process_count:
        count = launch.process_count
        raise LaunchError(
            f"-i is {launch.process_id}, but -a has {count} address{'es' * (count > 1)}; "
            f"give a number from 0 to {count - 1}, or more addresses"
        )
