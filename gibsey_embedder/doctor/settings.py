"""Settings and versions: what can be judged before any service is asked."""

from __future__ import annotations

import platform
import re
import sqlite3
from importlib import metadata

import confluent_kafka

from dataflow.config.settings import Settings, SettingsError
from dataflow.startup.recovery import CAN_READ_PARTITIONS
from gibsey_embedder.doctor.findings import Finding, bad, good, warning

PROGRAM = "gibsey-embedder"


def of_error(error: SettingsError) -> list[Finding]:
    """A finding for each fault of settings that cannot be used."""
    return [
        bad(
            "settings",
            f"{name} {text}",
            f"correct {name}_FILE" if f"{name}_FILE" in text else f"correct {name}",
        )
        for name, text in error.problems
    ]


def check_settings(settings: Settings) -> list[Finding]:
    """Look for settings that are valid, but hardly meant."""
    found = [
        warning("settings", f"there is no setting {given}", f"did you mean {meant}?")
        for given, meant in settings.unknown_names()
    ]
    if not settings.stargate_auth_token and not settings.stargate_username:
        remedy = "set STARGATE_AUTH_TOKEN, or STARGATE_USERNAME, _PASSWORD and _AUTH_URL"
        found.append(warning("settings", "no token for Stargate is given", remedy))
    given = len(settings.model_fields_set)
    return found or [good("settings", f"valid; {given} given, the others by default")]


def check_versions() -> list[Finding]:
    """Compare what is installed with what the program was made for."""
    bytewax = metadata.version("bytewax")
    librdkafka = str(confluent_kafka.libversion()[0])
    found = good(
        "versions",
        f"{PROGRAM} {_own_version()}, Bytewax {bytewax}, librdkafka {librdkafka}, "
        f"Python {platform.python_version()}",
    )
    wanted = _pinned("bytewax")
    if wanted and wanted != bytewax:
        found = warning(
            "versions",
            f"Bytewax {bytewax} is installed, {PROGRAM} is made for {wanted}: a recovery store "
            "may not be readable",
            f"pip install bytewax=={wanted}",
        )
    if CAN_READ_PARTITIONS:
        return [found]
    seen = f"Python's SQLite {sqlite3.sqlite_version} is too old to look into a recovery store"
    return [found, warning("versions", seen, "use a Python with SQLite 3.37 or newer")]


def _own_version() -> str:
    try:
        return metadata.version(PROGRAM)
    except metadata.PackageNotFoundError:
        return "(from a source tree)"


def _pinned(package: str) -> str | None:
    """The one version of a package that the program asks for."""
    try:
        asked = metadata.requires(PROGRAM) or []
    except metadata.PackageNotFoundError:
        return None
    matches = (re.match(rf"{package}==([\w.]+)", line) for line in asked)
    return next((match[1] for match in matches if match), None)
