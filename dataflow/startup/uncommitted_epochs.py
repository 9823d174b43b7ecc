"""Snapshots of an epoch that was never committed, and what they would do.

Bytewax writes snapshots as they come, and resumes from the last epoch that all workers have
closed. Snapshots of later epochs, which a kill has left, are not read then, but stay in the store.
The next run counts its epochs on from there. A step that nothing comes for in an epoch takes no
snapshot in it, and so, once that epoch is committed, the one that was left there counts as its own:
state of records that the source, whose snapshot is anew, has yet to read. They would be taken for
done.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path


def forget_uncommitted(directory: Path) -> int:
    """Delete what a store holds of epochs that were never committed; before Bytewax opens it.

    Args:
        directory: All partitions of the store; used by nobody.

    Returns:
        How many snapshots were deleted.
    """
    files = sorted(directory.glob("part-*.sqlite3"))
    resume_epoch = next_epoch(files)
    if resume_epoch is None or not _are_of_one_age(files, resume_epoch):
        return 0
    deleted = 0
    for file in files:
        with closing(sqlite3.connect(file)) as database, database:
            found = database.execute("DELETE FROM snaps WHERE snap_epoch >= ?", (resume_epoch,))
            deleted += found.rowcount
    return deleted


def open_to_read(file: Path) -> sqlite3.Connection:
    """Open a recovery partition so that nothing in it can change, and none is made."""
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)


def next_epoch(files: Iterable[Path]) -> int | None:
    """The epoch that Bytewax resumes with: the first that not all workers have closed.

    Of the latest execution, each worker is as far as its latest frontier, or, without one, where
    the execution began. Any partition may hold some of these model_info.

    Args:
        files: All partitions of a store.

    Returns:
        The epoch; None for a store that was never used.
    """
    executions: dict[int, tuple[int, int]] = {}
    fronts: dict[tuple[int, int], int] = {}
    for file in files:
        with closing(open_to_read(file)) as database:
            for number, workers, epoch in database.execute(
                "SELECT ex_num, worker_count, resume_epoch FROM exs"
            ):
                executions[number] = workers, epoch
            for number, worker, epoch in database.execute(
                "SELECT ex_num, worker_index, worker_frontier FROM fronts"
            ):
                fronts[number, worker] = max(epoch, fronts.get((number, worker), 0))
    if not executions:
        return None
    latest = max(executions)
    workers, began = executions[latest]
    return min(max(began, fronts.get((latest, worker), 0)) for worker in range(workers))


def _are_of_one_age(files: Iterable[Path], resume_epoch: int) -> bool:
    """Whether Bytewax will take the store: no partition has dropped what it would resume from.

    It refuses others, until the right files are put back; what they hold must be there then.
    """
    for file in files:
        with closing(open_to_read(file)) as database:
            query = "SELECT count(*) FROM commits WHERE commit_epoch > ?"
            (too_new,) = database.execute(query, (resume_epoch,)).fetchone()
        if too_new:
            return False
    return True
