"""`gibsey-embedder gather`: moves all files of a recovery store into one directory.

Process 0 creates the store, and Bytewax never moves its files, so all partitions normally stay in
the directory of process 0. If they are in several directories (distributed manually, or volumes
were swapped), this command moves them together while no process runs. It does not copy them,
because Bytewax would use either of two copies of a partition.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dataflow.startup.recovery import (
    CAN_READ_PARTITIONS,
    RecoveryError,
    lock_store,
    partition_names,
    read_partition,
    write_error,
)

PRIVATE = 0o700
_TEMPORARY = ".being-gathered"


def gather(
    into: Annotated[Path, typer.Argument(metavar="INTO", help="RECOVERY_DIR of process 0.")],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FROM", help="RECOVERY_DIR of each other process; it may be empty."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Treat a directory that does not exist as empty."),
    ] = False,
) -> None:
    """Move all files of a recovery store into one directory, to change the number of processes.

    Stop all processes first. If the first directory already has all files, the command moves
    nothing. Exit code: 0 if the store is complete there (or does not exist yet), 1 if it is
    incomplete and nothing was changed, 2 if a directory does not exist.
    """
    directories = (into, *(sources or ()))
    _reject([path for path in directories if path.exists() and not path.is_dir()], "is a file")
    if not allow_missing:
        _reject([path for path in directories if not path.exists()], "does not exist")
    try:
        moved = gather_store(into, sources or [])
    except OSError as error:
        raise write_error(into, error) from None
    count = len(partitions_in(into))
    if not count:
        typer.echo("there is no recovery store yet; process 0 creates it at its first start")
        return
    for file in moved:
        typer.echo(f"moved {file}")
    typer.echo(f"{into} has the whole store: {count} partitions")


def _reject(paths: Sequence[Path], reason: str) -> None:
    if paths:
        names = ", ".join(map(str, paths))
        typer.echo(f"{names} {reason}; give the RECOVERY_DIR of each process", err=True)
        raise typer.Exit(2)


def gather_store(into: Path, sources: Sequence[Path]) -> list[Path]:
    """Move the partitions in `sources` to `into`.

    If the process is killed, the store is unchanged, or some partitions exist twice with the same
    content. The next call completes the move.

    Returns:
        The moved files.

    Raises:
        RecoveryError: A process uses one of the directories; or a partition is missing, exists
            twice with different content, or belongs to another store. Nothing was changed.
        OSError: A directory cannot be read or written.
    """
    if not CAN_READ_PARTITIONS:
        raise RecoveryError(
            "Python's SQLite is too old to read the partitions; use a Python with SQLite 3.37 or "
            "newer"
        )
    directories = list(dict.fromkeys(path.resolve() for path in (into, *sources) if path.is_dir()))
    with _locked(directories):
        partitions = _find_partitions(directories)
        _check_copies(partitions)
        home = into.resolve()
        moved = [first for first, *_ in partitions.values() if first.parent != home]
        _copy(moved, home)
        for file in (file for files in partitions.values() for file in files):
            if file.parent != home:
                file.unlink()
        return moved


@contextmanager
def _locked(directories: Sequence[Path]) -> Iterator[None]:
    """Lock all directories."""
    locks = []
    try:
        for directory in directories:
            numbers = {int(file.stem.partition("-")[2]) for file in directory.glob("worker-*.lock")}
            locks += [lock_store(directory, number) for number in sorted(numbers | {0})]
        yield
    finally:
        for lock in locks:
            lock.release()


def partitions_in(directory: Path) -> list[Path]:
    """Return the partitions in a directory."""
    return sorted(directory.glob("part-*.sqlite3"))


def _find_partitions(directories: Sequence[Path]) -> Mapping[int, list[Path]]:
    """Return the files of each partition, in the order of the directories.

    Raises:
        RecoveryError: The partitions belong to several stores, or a partition is missing or broken.
    """
    partitions: dict[int, list[Path]] = defaultdict(list)
    counts: dict[Path, int] = {}
    for file in (file for directory in directories for file in partitions_in(directory)):
        number, counts[file] = read_partition(file)
        _checkpoint(file)
        partitions[number].append(file)
    if len(set(counts.values())) > 1:
        files = ", ".join(f"{file} is one of {count}" for file, count in counts.items())
        raise RecoveryError(
            f"the partitions belong to different stores: {files}; leave out the directories of one "
            "store"
        )
    missing = set(range(max(counts.values(), default=0))) - partitions.keys()
    if missing:
        raise RecoveryError(
            f"{partition_names(missing)} is in none of the directories; give the directories of "
            "all processes, or restore the whole store from a backup"
        )
    return partitions


def _checkpoint(file: Path) -> None:
    """Write the write-ahead log, which a killed process leaves behind, into the partition."""
    with closing(sqlite3.connect(file)) as database:
        busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise RecoveryError(f"{file} is in use; stop the process that has it open")


def _check_copies(partitions: Mapping[int, list[Path]]) -> None:
    """Reject copies of a partition with different content."""
    for first, *others in partitions.values():
        for other in others:
            if not filecmp.cmp(first, other, shallow=False):
                newer = max((first, other), key=_last_epoch)
                raise RecoveryError(
                    f"{first} and {other} are the same partition at different times, and the older "
                    f"one would lose changes; move the older one away ({newer} is the newer one by "
                    "its epochs)"
                )


def _last_epoch(file: Path) -> int:
    """Return the last committed epoch of a partition."""
    with closing(sqlite3.connect(file)) as database:
        (epoch,) = database.execute("SELECT max(commit_epoch) FROM commits").fetchone()
    return epoch or 0


def _copy(files: Sequence[Path], into: Path) -> None:
    """Copy files into a temporary directory on the target's disk, then rename them into place."""
    if not files:
        return
    temporary = into / _TEMPORARY
    shutil.rmtree(temporary, ignore_errors=True)
    into.mkdir(PRIVATE, parents=True, exist_ok=True)
    temporary.mkdir(PRIVATE)
    for file in files:
        shutil.copyfile(file, temporary / file.name)
        _sync(temporary / file.name)
    for file in files:
        (temporary / file.name).rename(into / file.name)
    temporary.rmdir()
    _sync(into)


def _sync(path: Path) -> None:
    """Wait until a file, or a directory's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
