"""`gibsey-embedder gather`: a recovery store whose files lie in several directories becomes one.

`run` has process 0 make the store, and Bytewax never moves a file of it: whatever the number of
processes, all partitions stay in the directory of process 0. Where they came to lie in several (a
store that was spread by hand, volumes that changed places), they are moved together here, while
nobody runs. They are moved and not copied: of a partition that is there twice Bytewax takes either.
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
    unwritable,
)

PRIVATE = 0o700
_ASIDE = ".being-gathered"


def gather(
    into: Annotated[Path, typer.Argument(metavar="INTO", help="The RECOVERY_DIR of process 0.")],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FROM", help="Those of the other processes; they may be empty."),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option(
            "--allow-missing", help="A directory that is not there is one that was never used."
        ),
    ] = False,
) -> None:
    """Move all files of a recovery store into one directory, before the process count changes.

    All processes must have ended. Where all files lie in the first directory already, nothing is
    moved. Exit code: 0 the store is whole there (or there is none yet), 1 it is not, and nothing
    was changed; 2 a directory is not there.
    """
    directories = (into, *(sources or ()))
    _refuse([path for path in directories if path.exists() and not path.is_dir()], "is a file")
    if not allow_missing:
        _refuse([path for path in directories if not path.exists()], "is not there")
    try:
        moved = gather_store(into, sources or [])
    except OSError as error:
        raise unwritable(into, error) from None
    count = len(partitions_in(into))
    if not count:
        typer.echo("there is no recovery store yet; process 0 makes it at its first start")
        return
    for file in moved:
        typer.echo(f"moved {file}")
    typer.echo(f"{into} holds the whole store: {count} partitions")


def _refuse(paths: Sequence[Path], why: str) -> None:
    if paths:
        names = ", ".join(map(str, paths))
        typer.echo(f"{names} {why}; give the RECOVERY_DIR of each process", err=True)
        raise typer.Exit(2)


def gather_store(into: Path, sources: Sequence[Path]) -> list[Path]:
    """Move the partitions that lie in `sources` into `into`.

    Killed in the middle, it leaves the store as it was, or partitions twice with the same content,
    which another call puts right.

    Returns:
        The files that were moved.

    Raises:
        RecoveryError: A process uses one of the directories; a partition is missing, or there
            twice with different contents, or belongs to another store. Nothing was changed.
        OSError: A directory cannot be read or written.
    """
    if not CAN_READ_PARTITIONS:
        raise RecoveryError(
            "Python's SQLite cannot read the partitions; use one with 3.37 or newer"
        )
    directories = list(dict.fromkeys(path.resolve() for path in (into, *sources) if path.is_dir()))
    with _locked(directories):
        found = _found(directories)
        _check(found)
        home = into.resolve()
        arriving = [first for first, *_ in found.values() if first.parent != home]
        _copy(arriving, home)
        for file in (file for files in found.values() for file in files if file.parent != home):
            file.unlink()
        return arriving


@contextmanager
def _locked(directories: Sequence[Path]) -> Iterator[None]:
    """Keep workers off all directories."""
    locks = []
    try:
        for directory in directories:
            there = {int(file.stem.partition("-")[2]) for file in directory.glob("worker-*.lock")}
            locks += [lock_store(directory, number) for number in sorted(there | {0})]
        yield
    finally:
        for lock in locks:
            lock.release()


def partitions_in(directory: Path) -> list[Path]:
    """The partitions in a directory."""
    return sorted(directory.glob("part-*.sqlite3"))


def _found(directories: Sequence[Path]) -> Mapping[int, list[Path]]:
    """Where each partition lies, in the order of the directories; each file whole by itself.

    Raises:
        RecoveryError: There are partitions of several stores, or broken ones.
    """
    found: dict[int, list[Path]] = defaultdict(list)
    counts: dict[Path, int] = {}
    for file in (file for directory in directories for file in partitions_in(directory)):
        number, counts[file] = read_partition(file)
        _settle(file)
        found[number].append(file)
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{file} is one of {count}" for file, count in counts.items())
        raise RecoveryError(f"the partitions belong to different stores: {told}; leave out one")
    missing = set(range(max(counts.values(), default=0))) - found.keys()
    if missing:
        raise RecoveryError(
            f"{partition_names(missing)} is in none of the directories; give the others, too, or "
            "put it back from a backup of the whole store"
        )
    return found


def _settle(file: Path) -> None:
    """Bring what a killed process left in the write-ahead log into the partition's own file."""
    with closing(sqlite3.connect(file)) as database:
        busy, *_ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise RecoveryError(f"{file} is in use; stop the process that has it open")


def _check(found: Mapping[int, list[Path]]) -> None:
    """Refuse partitions that are there twice, unless they are the same."""
    for first, *others in found.values():
        for other in others:
            if not filecmp.cmp(first, other, shallow=False):
                newer = max((first, other), key=_epoch)
                raise RecoveryError(
                    f"{first} and {other} are the same partition at different times, and the wrong "
                    f"one would lose changes; move the older one away ({newer} is the newer, by "
                    "its epochs)"
                )


def _epoch(file: Path) -> int:
    """The last epoch that a partition has seen the end of."""
    with closing(sqlite3.connect(file)) as database:
        (epoch,) = database.execute("SELECT max(commit_epoch) FROM commits").fetchone()
    return epoch or 0


def _copy(files: Sequence[Path], into: Path) -> None:
    """Copy files to the disk of a directory, and then, all at once as far as can be, into it."""
    if not files:
        return
    aside = into / _ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    into.mkdir(PRIVATE, parents=True, exist_ok=True)
    aside.mkdir(PRIVATE)
    for file in files:
        shutil.copyfile(file, aside / file.name)
        _sync(aside / file.name)
    for file in files:
        (aside / file.name).rename(into / file.name)
    aside.rmdir()
    _sync(into)


def _sync(path: Path) -> None:
    """Wait until a file, or a directory's list of files, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
