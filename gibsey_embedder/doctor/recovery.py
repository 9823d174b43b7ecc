"""The recovery directory: there or makeable, writable, private, whole; nothing is made."""

from __future__ import annotations

import os
from pathlib import Path

from dataflow.startup.launch import Launch
from dataflow.startup.recovery import RecoveryError, check_recovery_store
from gibsey_embedder.doctor.findings import Finding, bad, good, warning

CHECK = "recovery"


def check_recovery_dir(directory: Path) -> list[Finding]:
    """Judge RECOVERY_DIR."""
    directory = directory.absolute()
    try:
        if not directory.exists():
            return [_missing(directory)]
        if not directory.is_dir():
            remedy = "set RECOVERY_DIR to a directory"
            return [bad(CHECK, f"{directory} is no directory", remedy)]
        if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
            remedy = f"give user {os.geteuid()} the right to write there"
            return [bad(CHECK, f"{directory} cannot be written", remedy)]
        return [_store(directory), *_mode(directory)]
    except OSError as error:
        remedy = "correct RECOVERY_DIR, or the rights on the way to it"
        return [bad(CHECK, f"{directory} cannot be looked at: {error.strerror}", remedy)]


def _missing(directory: Path) -> Finding:
    parent = next(p for p in directory.parents if p.exists())
    if not parent.is_dir():
        found = f"{directory} cannot be made: {parent} is no directory"
        return bad(CHECK, found, "set RECOVERY_DIR to a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        found = f"{directory} cannot be made: {parent} cannot be written"
        return bad(CHECK, found, f"give user {os.geteuid()} the right to write there")
    return good(CHECK, f"{directory} is made at the first run")


def _store(directory: Path) -> Finding:
    parts = sorted(directory.glob("part-*.sqlite3"))
    if not parts:
        return good(CHECK, f"{directory} is empty; the store is made at the first run")
    try:
        lock = check_recovery_store(Launch(recovery_dir=directory))
    except RecoveryError as error:
        found, _, remedy = str(error).partition("; ")
        if "is in use" in found:
            return good(CHECK, f"{found}, so it can be read")
        return bad(CHECK, found, remedy)
    if lock is not None:
        lock.release()
    return good(CHECK, f"{directory} is whole: {len(parts)} partitions")


def _mode(directory: Path) -> list[Finding]:
    if not any(directory.iterdir()):
        return []  # `run` makes an empty one private
    mode = directory.stat().st_mode & 0o777
    if not mode & 0o077:
        return []
    found = f"{directory} holds page texts, and others may look into it (mode {mode:o})"
    return [warning(f"{CHECK} mode", found, f"chmod 700 {directory}")]
