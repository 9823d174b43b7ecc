"""Deletes the snapshots of uncommitted epochs, which a killed run leaves in the recovery store.

Bytewax resumes from the last epoch that all workers closed. It ignores the snapshots of later
epochs, but does not delete them, and the next run uses the same epoch numbers again. A step without
input in an epoch writes no snapshot in it. As soon as that epoch is committed, the old snapshot
counts as the step's state. That state includes records which the source has not read again yet, so
the stream would skip them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path


def delete_uncommitted_snapshots(directory: Path) -> int:
    """Delete all snapshots of uncommitted epochs; call this before Bytewax opens the store.

    Args:
        directory: The directory with all partitions of a store that no process uses.

    Returns:
        The number of deleted snapshots.
    """
    files = sorted(directory.glob("part-*.sqlite3"))
    resume_epoch = find_resume_epoch(files)
    if resume_epoch is None or not _can_resume(files, resume_epoch):
        return 0
    deleted = 0
    for file in files:
        with closing(sqlite3.connect(file)) as database, database:
            cursor = database.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (resume_epoch,))
            deleted += cursor.rowcount
    return deleted


def open_read_only(file: Path) -> sqlite3.Connection:
    """Open an existing recovery partition read-only."""
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)


def find_resume_epoch(files: Iterable[Path]) -> int | None:
    """Return the epoch that Bytewax resumes with: the first that not all workers closed.

    A worker's position is its latest frontier in the latest execution, or else the epoch in which
    that execution began. The rows are spread over all partitions.

    Args:
        files: All partitions of a store.

    Returns:
        The epoch; None for a store that was never used.
    """
    executions: dict[int, tuple[int, int]] = {}
    frontiers: dict[tuple[int, int], int] = {}
    for file in files:
        with closing(open_read_only(file)) as database:
            for number, workers, epoch in database.execute(
                "SELECT ex_num, worker_count, resume_epoch FROM exs"
            ):
                executions[number] = workers, epoch
            for number, worker, epoch in database.execute(
                "SELECT ex_num, worker_index, worker_frontier FROM fronts"
            ):
                frontiers[number, worker] = max(epoch, frontiers.get((number, worker), 0))
    if not executions:
        return None
    latest = max(executions)
    workers, first_epoch = executions[latest]
    return min(max(first_epoch, frontiers.get((latest, worker), 0)) for worker in range(workers))


def _can_resume(files: Iterable[Path], resume_epoch: int) -> bool:
    """Return whether every partition still has the snapshots of the resume epoch.

    Bytewax rejects a store with files of different ages. Its files stay unchanged, so that a
    restored file can complete the store.
    """
    for file in files:
        with closing(open_read_only(file)) as database:
            query = "SELECT count(*) FROM commits WHERE commit_epoch > ?"
            (newer_commits,) = database.execute(query, (resume_epoch,)).fetchone()
        if newer_commits:
            return False
    return True
