"""Checks that the recovery directory is usable, private and complete; it creates nothing."""

from __future__ import annotations

import os
from pathlib import Path

from connectors.core.findings import Finding, bad, good, warning
from dataflow.startup.launch import Launch
from dataflow.startup.recovery import RecoveryError, check_recovery_store

CHECK = "recovery"


def check_recovery_dir(directory: Path) -> list[Finding]:
    """Check RECOVERY_DIR."""
    directory = directory.absolute()
    try:
        if not directory.exists():
            return [_missing(directory)]
        if not directory.is_dir():
            remedy = "set RECOVERY_DIR to a directory"
            return [bad(CHECK, f"{directory} is not a directory", remedy)]
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            remedy = f"give user {os.geteuid()} the right to write there"
            return [bad(CHECK, f"{directory} is not writable", remedy)]
        return [_store(directory), *_mode(directory)]
    except OSError as error:
        remedy = "correct RECOVERY_DIR, or the permissions of its parent directories"
        return [bad(CHECK, f"{directory} cannot be read: {error.strerror}", remedy)]


def _missing(directory: Path) -> Finding:
    parent = next(p for p in directory.parents if p.exists())
    if not parent.is_dir():
        found = f"{directory} cannot be created: {parent} is not a directory"
        return bad(CHECK, found, "set RECOVERY_DIR to a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        found = f"{directory} cannot be created: {parent} is not writable"
        return bad(CHECK, found, f"give user {os.geteuid()} the right to write there")
    return good(CHECK, f"the first run creates {directory}")


def _store(directory: Path) -> Finding:
    partitions = sorted(directory.glob("part-*.sqlite3"))
    if not partitions:
        return good(CHECK, f"{directory} is empty; the first run creates the store")
    try:
        lock = check_recovery_store(Launch(recovery_dir=directory))
    except RecoveryError as error:
        found, _, remedy = str(error).partition("; ")
        if "is in use" in found:
            return good(CHECK, f"{found}, so it is readable")
        return bad(CHECK, found, remedy)
    if lock is not None:
        lock.release()
    return good(CHECK, f"{directory} is complete: {len(partitions)} partitions")


def _mode(directory: Path) -> list[Finding]:
    if not any(directory.iterdir()):
        return []  # `run` makes an empty directory private
    mode = directory.stat().st_mode & 0o777
    if not mode & 0o077:
        return []
    found = f"other users can read the texts of pages in {directory} (mode {mode:o})"
    return [warning(f"{CHECK} mode", found, f"chmod 700 {directory}")]
