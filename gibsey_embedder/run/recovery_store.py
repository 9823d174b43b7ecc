"""Makes the recovery store where there is none yet."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

from connectors.observability import logs
from dataflow.startup.launch import Launch
from dataflow.startup.recovery import CAN_READ_PARTITIONS, lock_store, read_partition, unwritable

PRIVATE = 0o700
"""The store holds page texts in plain form."""


def make_store(started: Launch, partitions: int) -> None:
    """Make the recovery store that a process needs, unless it is there.

    In a cluster process 0 makes it; the others only get their directory.

    Args:
        started: The process that is about to start; without a store nothing is made.
        partitions: Files of a new store; one that is there keeps its own count.

    Raises:
        RecoveryError: The directory cannot be made or written, or a worker is using it.
    """
    directory = started.recovery_dir
    if directory is None:
        return
    try:
        _make_directory(directory)
    except OSError as error:
        raise unwritable(directory, error) from None
    lock = lock_store(directory, started.process_id)
    try:
        if started.process_id == 0:
            _make_partitions(directory, partitions)
    except OSError as error:
        raise unwritable(directory, error) from None
    finally:
        lock.release()


def _make_directory(directory: Path) -> None:
    directory.mkdir(PRIVATE, parents=True, exist_ok=True)
    if directory.stat().st_uid == os.geteuid() and not any(directory.iterdir()):
        directory.chmod(PRIVATE)  # An empty volume, made by others with other rights.


def _make_partitions(directory: Path, partitions: int) -> None:
    log = logs.get("recovery")
    there = sorted(directory.glob("part-*.sqlite3"))
    if not there:
        _make_anew(directory, partitions)
        log.info("recovery store made", directory=str(directory), partitions=partitions)
        return
    count = read_partition(there[0])[1] if CAN_READ_PARTITIONS else len(there)
    if count != partitions:
        log.warning(
            "recovery store keeps its partitions",
            directory=str(directory),
            partitions=count,
            ignored=f"RECOVERY_PARTITIONS={partitions}",
            remedy="nothing to do; the number is that of a new store",
        )


def _make_anew(directory: Path, partitions: int) -> None:
    """Make the files aside and move them in, so that a kill never leaves half of them.

    In a process of its own, since Bytewax panics, with pages of output, where a disk is full.
    """
    aside = directory / ".being-made"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(PRIVATE)
    command = [sys.executable, "-m", "bytewax.recovery", str(aside.resolve()), str(partitions)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        shutil.rmtree(aside, ignore_errors=True)
        raise _cause(made.stderr)
    for file in sorted(aside.iterdir()):
        file.rename(directory / file.name)
    aside.rmdir()


def _cause(output: str) -> OSError:
    if "DiskFull" in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    *_, last = output.strip().splitlines() or ["no reason given"]
    return OSError(errno.EIO, last)
