"""Checks the settings and the installed versions."""

from __future__ import annotations

import platform
import re
import sqlite3
from collections.abc import Sequence
from importlib import metadata

import confluent_kafka

from connectors.core.findings import Finding, bad, good, warning
from dataflow.config.settings import Settings, SettingsError
from dataflow.startup.recovery import CAN_READ_PARTITIONS

PROGRAM = "gibsey-embedder"


def settings_findings(error: SettingsError) -> list[Finding]:
    """Return a finding for each problem of the settings."""
    return [
        bad(
            "settings",
            f"{name} {text}",
            f"correct {name}_FILE" if f"{name}_FILE" in text else f"correct {name}",
        )
        for name, text in error.problems
    ]


def check_settings(settings: Settings, of_store: Sequence[Finding]) -> list[Finding]:
    """Find misspelt settings, and valid settings that are probably a mistake.

    Args:
        settings: The settings.
        of_store: The findings about the store's own settings.
    """
    findings = [
        warning("settings", f"{name} is not a setting", f"did you mean {setting}?")
        for name, setting in settings.unknown_names()
    ]
    findings += of_store
    count = len(settings.model_fields_set)
    return findings or [good("settings", f"valid; {count} set, the others have their defaults")]


def check_versions(can_read_partitions: bool = CAN_READ_PARTITIONS) -> list[Finding]:
    """Compare the installed versions with those that the program needs.

    Args:
        can_read_partitions: Whether Python's SQLite can read a recovery store.
    """
    bytewax = metadata.version("bytewax")
    librdkafka = str(confluent_kafka.libversion()[0])
    finding = good(
        "versions",
        f"{PROGRAM} {_own_version()}, Bytewax {bytewax}, librdkafka {librdkafka}, "
        f"Python {platform.python_version()}",
    )
    required = _pinned_version("bytewax")
    if required and required != bytewax:
        finding = warning(
            "versions",
            f"Bytewax {bytewax} is installed, but {PROGRAM} needs {required}: the recovery store "
            "may be unreadable",
            f"pip install bytewax=={required}",
        )
    if can_read_partitions:
        return [finding]
    found = f"Python's SQLite {sqlite3.sqlite_version} is too old to read a recovery store"
    return [finding, warning("versions", found, "use a Python with SQLite 3.37 or newer")]


def _own_version() -> str:
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _pinned_version(package: str) -> str | None:
    """Return the version of a package that the program requires."""
    try:
        requirements = metadata.requires(PROGRAM) or []
    except metadata.PackageNotFoundError:
        return None
    matches = (re.match(rf"{package}==([\w.]+)", line) for line in requirements)
    return next((match[1] for match in matches if match), None)
