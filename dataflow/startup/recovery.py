"""Whether the recovery store can be used, and the lock that keeps a second worker off it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import IO

from connectors.core.buckets import BUCKET_KEYS
from connectors.core.errors import IncompatibleRecoveryStoreError
from dataflow.startup.launch import Launch, LaunchError
from dataflow.startup.snapshot_layouts import check_layouts
from dataflow.startup.uncommitted_epochs import forget_uncommitted, open_to_read

MAKE_IT = (
    "start with `gibsey-embedder run`, "
    "or make it with `mkdir -p -m 700 {0} && python -m bytewax.recovery {0} 4`"
)


CAN_READ_PARTITIONS = sqlite3.sqlite_version_info >= (3, 37)
"""Bytewax brings an SQLite of its own; Python's may be too old for its STRICT tables."""
CACHED_PAGES = 64
"""Pages of 4 KB that SQLite keeps of each partition."""


class RecoveryError(LaunchError):
    """The recovery store cannot be used; `str()` is one line with the remedy."""


class RecoveryLock:
    """Keeps other workers off a recovery store; held until `release()` or the process's end.

    Attributes:
        path: The locked file.
    """

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path = path
        self._file = file

    def release(self) -> None:
        """Let another worker have the store."""
        _HELD.pop(self.path, None)
        self._file.close()


_HELD: dict[Path, RecoveryLock] = {}
"""Locks of this process, kept from the garbage collector, which would release them."""


def check_recovery(started: Launch) -> RecoveryLock | None:
    """Check the recovery store, and lock it for this process of the cluster.

    Returns:
        The lock, or None where no store is used.

    Raises:
        RecoveryError: A cluster has no store; or the store is not there, not whole, not writable,
            or used by another process.
    """
    directory = started.recovery_dir
    if directory is None:
        if started.is_cluster:
            raise RecoveryError(
                f"{started.process_count} processes need a recovery store, since a page may be "
                "read in one and stored by another; add -r DIR -s 5 -b 0"
            )
        return None
    if not directory.is_dir():
        raise RecoveryError(f"no recovery store is at {directory}; {MAKE_IT.format(directory)}")
    lock = lock_store(directory, started.process_id)
    try:
        _check_partitions(directory, started)
    except RecoveryError:
        lock.release()
        raise
    return lock


def make_ready(started: Launch) -> None:
    """Clear a store of what a killed run has left in it, and have Bytewax cache little of it.

    Args:
        started: A process of which the store was checked and locked.

    Raises:
        RecoveryError: It cannot be written.
    """
    directory = started.recovery_dir
    if directory is None or started.process_id or not CAN_READ_PARTITIONS:
        return
    try:
        forget_uncommitted(directory)
        _cache_little(directory)
    except (sqlite3.Error, OSError) as error:
        raise RecoveryError(
            f"the recovery store {directory} cannot be opened: {error}; see that no other process "
            "has it open and that its disk has space; else restore the whole store from a backup"
        ) from None


def _cache_little(directory: Path) -> None:
    """Set how much of each partition SQLite keeps in memory, for all who open it without a wish.

    By default it is 2 MB, which a run only comes to after a few snapshots; they are not read again.
    """
    for file in directory.glob("part-*.sqlite3"):
        with closing(sqlite3.connect(file)) as database, database:
            if database.execute("PRAGMA default_cache_size").fetchone() != (CACHED_PAGES,):
                database.execute(f"PRAGMA default_cache_size = {CACHED_PAGES}")


def lock_store(directory: Path, process_id: int) -> RecoveryLock:
    """Lock a recovery store for one process of the cluster.

    Raises:
        RecoveryError: Another process holds it, or the directory cannot be written.
    """
    path = directory.resolve() / f"worker-{process_id}.lock"
    if path in _HELD:
        return _HELD[path]
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise unwritable(path.parent, error) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    except BlockingIOError:
        file.seek(0)
        holder = file.read(200) or "another process"
        file.close()
        raise RecoveryError(
            f"the recovery store {path.parent} is in use by {holder}; stop that one first, "
            "or give this one its own with -r"
        ) from None
    except OSError as error:
        file.close()
        raise unwritable(path.parent, error) from None
    _HELD[path] = RecoveryLock(path, file)
    return _HELD[path]


def unwritable(directory: Path, error: OSError) -> RecoveryError:
    """Put into words that a recovery store's directory refuses to be written."""
    remedy = {
        errno.ENOSPC: "free space on its disk",
        errno.EDQUOT: "free space, or raise the quota",
        errno.EEXIST: "give the path of a directory",
        errno.ENOTDIR: "give the path of a directory",
        errno.EROFS: "mount a volume there that can be written",
    }.get(error.errno or 0, f"give user {os.geteuid()} the right to write there")
    return RecoveryError(
        f"the recovery store {directory} cannot be written: {error.strerror}; {remedy}"
    )


def _check_partitions(directory: Path, started: Launch) -> None:
    """Check that the store is whole, or that it lies with process 0 alone.

    Bytewax also takes a store whose partitions lie in several directories. But of a partition that
    is there twice it takes either, and writes one of them, without a word (run and seen): an old
    copy that is left on a volume brings old state back. So a part of a store is refused.
    """
    files = sorted(directory.glob("part-*.sqlite3"))
    if not files and started.process_id == 0:
        raise RecoveryError(f"the recovery store {directory} is empty; {MAKE_IT.format(directory)}")
    for file in files:
        if not os.access(file, os.R_OK | os.W_OK):
            raise RecoveryError(
                f"{file} cannot be written; give user {os.geteuid()} the right to read and write it"
            )
    if files and CAN_READ_PARTITIONS:
        _check_all_there(directory, [read_partition(file) for file in files])
        _check_buckets(files)
        _check_layouts(files)


def read_partition(file: Path) -> tuple[int, int]:
    """Return a recovery partition's number, and how many belong to its store.

    Raises:
        RecoveryError: The file is no recovery partition.
    """
    try:
        with closing(open_to_read(file)) as database:
            index, count = database.execute("SELECT part_index, part_count FROM parts").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise _unreadable(file, error) from None
    return int(index), int(count)


def _unreadable(file: Path, error: Exception) -> RecoveryError:
    return RecoveryError(
        f"{file} is no recovery partition ({error}); restore the whole store from a backup, "
        "or start with a new one"
    )


def _check_all_there(directory: Path, found: list[tuple[int, int]]) -> None:
    counts = {count for _, count in found}
    if len(counts) > 1:
        raise RecoveryError(
            f"the recovery store {directory} has partitions of different stores; put back the ones "
            "that belong together, or start with a new one"
        )
    missing = set(range(max(counts))) - {index for index, _ in found}
    if missing:
        raise RecoveryError(
            f"the recovery store {directory} lacks {partition_names(missing)}; put back what is "
            "missing (from other processes' directories with `gibsey-embedder gather`), or start "
            "with a new one"
        )


def _check_buckets(files: Iterable[Path]) -> None:
    """Refuse a store of a version with other buckets, at which Bytewax itself would panic."""
    query = "SELECT DISTINCT state_key FROM snaps WHERE step_id NOT LIKE '%.kafka'"
    for file in files:
        try:
            with closing(open_to_read(file)) as database:
                keys = {key for (key,) in database.execute(query)}
        except sqlite3.Error as error:
            raise _unreadable(file, error) from None
        if strange := sorted(keys - set(BUCKET_KEYS)):
            odd = IncompatibleRecoveryStoreError(
                f"a bucket {strange[0]}", f"such as {BUCKET_KEYS[0]}"
            )
            raise RecoveryError(str(odd))


def _check_layouts(files: Iterable[Path]) -> None:
    """Reject a store of a version whose steps keep something else."""
    try:
        check_layouts(files)
    except IncompatibleRecoveryStoreError as error:
        raise RecoveryError(str(error)) from None


def partition_names(numbers: Iterable[int]) -> str:
    """The files of partitions, for a message."""
    return ", ".join(f"part-{number}.sqlite3" for number in sorted(numbers))
