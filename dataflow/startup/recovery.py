"""Checks the recovery store, and locks it against a second process."""

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
from dataflow.graph import SOURCE_STEP
from dataflow.startup.launch import Launch, LaunchError
from dataflow.startup.snapshot_layouts import check_layouts
from dataflow.startup.uncommitted_epochs import delete_uncommitted_snapshots, open_read_only

CREATE_REMEDY = (
    "start with `gibsey-embedder run`, "
    "or create it with `mkdir -p -m 700 {0} && python -m bytewax.recovery {0} 4`"
)
CAN_READ_PARTITIONS = sqlite3.sqlite_version_info >= (3, 37)
"""Bytewax contains its own SQLite; Python's SQLite may be too old for the STRICT tables."""
CACHED_PAGES = 64
"""SQLite's cache per partition, in pages of 4 KB."""


class RecoveryError(LaunchError):
    """The recovery store cannot be used; `str()` is one line with the remedy."""


class RecoveryLock:
    """Locks a recovery store until `release()` or until the process ends.

    Attributes:
        path: The locked file.
    """

    def __init__(self, path: Path, file: IO[str]) -> None:
        self.path = path
        self._file = file

    def release(self) -> None:
        """Release the lock."""
        _HELD.pop(self.path, None)
        self._file.close()


_HELD: dict[Path, RecoveryLock] = {}
"""The locks of this process; without this reference, the garbage collector would release them."""


def check_recovery_store(launch: Launch) -> RecoveryLock | None:
    """Check the recovery store, and lock it for this process of the cluster.

    Returns:
        The lock, or None if the process uses no store.

    Raises:
        RecoveryError: A cluster has no store; or the store does not exist, is incomplete, is not
            writable, was written by an incompatible version, or is in use by another process.
    """
    directory = launch.recovery_dir
    if directory is None:
        if launch.is_cluster:
            raise RecoveryError(
                f"{launch.process_count} processes need a recovery store, because one process may "
                "read a page that another one stores; add -r DIR -s 5 -b 0"
            )
        return None
    if not directory.is_dir():
        raise RecoveryError(
            f"there is no recovery store at {directory}; {CREATE_REMEDY.format(directory)}"
        )
    lock = lock_store(directory, launch.process_id)
    try:
        _check_partitions(directory, launch)
    except RecoveryError:
        lock.release()
        raise
    return lock


def prepare_store(launch: Launch) -> None:
    """Delete uncommitted snapshots from the store, and limit SQLite's cache.

    Args:
        launch: The command line of a process whose store is checked and locked.

    Raises:
        RecoveryError: The store cannot be written.
    """
    directory = launch.recovery_dir
    if directory is None or launch.process_id or not CAN_READ_PARTITIONS:
        return
    try:
        delete_uncommitted_snapshots(directory)
        _limit_cache(directory)
    except (sqlite3.Error, OSError) as error:
        raise _open_error(directory, error) from None


def _open_error(directory: Path, error: Exception) -> RecoveryError:
    return RecoveryError(
        f"the recovery store {directory} cannot be opened: {error}; check that no other process "
        "has it open and that its disk has space, or restore the whole store from a backup"
    )


def _limit_cache(directory: Path) -> None:
    """Store a smaller default cache size in each partition.

    SQLite's default is 2 MB per partition, although a run never reads its snapshots again.
    """
    for file in directory.glob("part-*.sqlite3"):
        with closing(sqlite3.connect(file)) as database, database:
            if database.execute("PRAGMA default_cache_size").fetchone() != (CACHED_PAGES,):
                database.execute(f"PRAGMA default_cache_size = {CACHED_PAGES}")


def lock_store(directory: Path, process_id: int) -> RecoveryLock:
    """Lock a recovery store for one process of the cluster.

    Raises:
        RecoveryError: Another process holds the lock, or the directory is not writable.
    """
    path = directory.resolve() / f"worker-{process_id}.lock"
    if path in _HELD:
        return _HELD[path]
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise write_error(path.parent, error) from None
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
            f"the recovery store {path.parent} is in use by {holder}; stop that process first, "
            "or give this one its own store with -r"
        ) from None
    except OSError as error:
        file.close()
        raise write_error(path.parent, error) from None
    _HELD[path] = RecoveryLock(path, file)
    return _HELD[path]


def write_error(directory: Path, error: OSError) -> RecoveryError:
    """Return the error, with its remedy, for a directory that is not writable."""
    remedy = {
        errno.ENOSPC: "free space on its disk",
        errno.EDQUOT: "free space, or raise the quota",
        errno.EEXIST: "give the path of a directory",
        errno.ENOTDIR: "give the path of a directory",
        errno.EROFS: "mount a writable volume there",
    }.get(error.errno or 0, f"give user {os.geteuid()} the right to write there")
    return RecoveryError(
        f"the recovery store {directory} cannot be written: {error.strerror}; {remedy}"
    )


def _check_partitions(directory: Path, launch: Launch) -> None:
    """Check that process 0 has all partitions, and that the other processes have all or none.

    Bytewax accepts partitions in several directories. If two directories contain the same
    partition, Bytewax uses either of them without a message, so an old copy restores old state.
    """
    files = sorted(directory.glob("part-*.sqlite3"))
    if not files and launch.process_id == 0:
        raise RecoveryError(
            f"the recovery store {directory} is empty; {CREATE_REMEDY.format(directory)}"
        )
    for file in files:
        if not os.access(file, os.R_OK | os.W_OK):
            raise RecoveryError(
                f"{file} is not writable; give user {os.geteuid()} the right to read and write it"
            )
    if files and CAN_READ_PARTITIONS:
        _check_complete(directory, [read_partition(file) for file in files])
        _check_buckets(files)
        _check_layouts(directory, files)


def read_partition(file: Path) -> tuple[int, int]:
    """Return the index of a recovery partition and the number of partitions of its store.

    Raises:
        RecoveryError: The file is not a recovery partition.
    """
    try:
        with closing(open_read_only(file)) as database:
            index, count = database.execute("SELECT part_index, part_count FROM parts").fetchone()
    except (sqlite3.Error, TypeError) as error:
        raise _read_error(file, error) from None
    return int(index), int(count)


def _read_error(file: Path, error: Exception) -> RecoveryError:
    return RecoveryError(
        f"{file} is not a recovery partition ({error}); restore the whole store from a backup, "
        "or start with a new store"
    )


def _check_complete(directory: Path, partitions: list[tuple[int, int]]) -> None:
    counts = {count for _, count in partitions}
    if len(counts) > 1:
        raise RecoveryError(
            f"the recovery store {directory} has partitions of different stores; restore all files "
            "from one backup, or start with a new store"
        )
    missing = set(range(max(counts))) - {index for index, _ in partitions}
    if missing:
        raise RecoveryError(
            f"the recovery store {directory} lacks {partition_names(missing)}; restore the missing "
            "files (from other processes' directories with `gibsey-embedder gather`), or start "
            "with a new store"
        )


def _check_buckets(files: Iterable[Path]) -> None:
    """Reject a store with other buckets, because Bytewax panics when it opens one."""
    query = "SELECT DISTINCT state_key FROM snaps WHERE step_id NOT LIKE ?"
    for file in files:
        try:
            with closing(open_read_only(file)) as database:
                keys = {key for (key,) in database.execute(query, (f"%.{SOURCE_STEP}",))}
        except sqlite3.Error as error:
            raise _read_error(file, error) from None
        if unknown := sorted(keys - set(BUCKET_KEYS)):
            incompatible = IncompatibleRecoveryStoreError(
                f"a bucket {unknown[0]}", f"such as {BUCKET_KEYS[0]}"
            )
            raise RecoveryError(str(incompatible))


def _check_layouts(directory: Path, files: Iterable[Path]) -> None:
    """Reject a store whose snapshots have another layout."""
    try:
        check_layouts(files)
    except sqlite3.Error as error:
        raise _open_error(directory, error) from None
    except IncompatibleRecoveryStoreError as error:
        raise RecoveryError(str(error)) from None


def partition_names(numbers: Iterable[int]) -> str:
    """Return the file names of partitions, for a message."""
    return ", ".join(f"part-{number}.sqlite3" for number in sorted(numbers))
