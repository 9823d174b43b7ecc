"""Creates the recovery store, unless it exists."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

from connectors.observability import logs
from dataflow.startup.launch import Launch
from dataflow.startup.recovery import CAN_READ_PARTITIONS, lock_store, read_partition, write_error

PRIVATE = 0o700
"""Only the owner may read the store, because it contains the text of pages."""


def create_store(launch: Launch, partitions: int) -> None:
    """Create the recovery store that a process needs, unless it exists.

    In a cluster, process 0 creates the store; the other processes only create their directory.

    Args:
        launch: The command line of the process; without a recovery directory, nothing is created.
        partitions: Number of files of a new store; an existing store keeps its own number.

    Raises:
        RecoveryError: The directory cannot be created or written, or another process uses it.
    """
    directory = launch.recovery_dir
    if directory is None:
        return
    try:
        _create_directory(directory)
    except OSError as error:
        raise write_error(directory, error) from None
    lock = lock_store(directory, launch.process_id)
    try:
        if launch.process_id == 0:
            _create_partitions(directory, partitions)
    except OSError as error:
        raise write_error(directory, error) from None
    finally:
        lock.release()


def _create_directory(directory: Path) -> None:
    directory.mkdir(PRIVATE, parents=True, exist_ok=True)
    if directory.stat().st_uid == os.geteuid() and not any(directory.iterdir()):
        directory.chmod(PRIVATE)  # an empty volume may have other rights


def _create_partitions(directory: Path, partitions: int) -> None:
    log = logs.get("recovery")
    files = sorted(directory.glob("part-*.sqlite3"))
    if not files:
        _create_all_or_none(directory, partitions)
        log.info("recovery store created", directory=str(directory), partitions=partitions)
        return
    count = read_partition(files[0])[1] if CAN_READ_PARTITIONS else len(files)
    if count != partitions:
        log.warning(
            "recovery store keeps its partitions",
            directory=str(directory),
            partitions=count,
            ignored=f"RECOVERY_PARTITIONS={partitions}",
            remedy="none needed; RECOVERY_PARTITIONS applies only to a new store",
        )


def _create_all_or_none(directory: Path, partitions: int) -> None:
    """Create the files in a temporary directory and move them, so that a kill leaves none or all.

    Bytewax runs in a process of its own, because it panics with a long output if the disk is full.
    """
    temporary = directory / ".being-made"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(PRIVATE)
    command = [sys.executable, "-m", "bytewax.recovery", str(temporary.resolve()), str(partitions)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _error_in(result.stderr)
    for file in sorted(temporary.iterdir()):
        file.rename(directory / file.name)
    temporary.rmdir()


def _error_in(output: str) -> OSError:
    if "DiskFull" in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    *_, last = output.strip().splitlines() or ["no reason given"]
    return OSError(errno.EIO, last)
