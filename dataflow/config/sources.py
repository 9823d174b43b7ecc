"""Where settings come from beside plain variables: files of secrets; and names nobody reads."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from dataflow.config.values import SecretFault

LARGEST_SECRET_BYTES = 64 * 1024

_PREFIXES = re.compile(
    r"(KAFKA|EMBED|OPENAI|STARGATE|RAG|WINDOW|RECOVERY|SNAPSHOT|STATUS|DEAD_LETTER|HTTP_CA|CACHE)_"
)

_SERVICE_LINK = re.compile(r"_(SERVICE_(HOST|PORT).*|PORT|PORT_[0-9]+_(TCP|UDP).*)$")
"""Variables that Kubernetes sets in every pod for each service; theirs, so never a slip of ours."""

Variables = Mapping[str, str | None]


class SecretFiles(PydanticBaseSettingsSource):
    """Reads each secret `NAME` from the file that `NAME_FILE` names.

    Args:
        settings_cls: The settings to fill.
        secrets: The fields that are secrets.
        levels: The variables of each source, the one that wins first; names in small letters.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], secrets: tuple[str, ...], *levels: Variables
    ) -> None:
        super().__init__(settings_cls)
        self._secrets = secrets
        self._levels = levels

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the secret, or a `SecretFault`, or None where no file is given."""
        del field
        for variables in self._levels:
            path = variables.get(f"{field_name}_file")
            plain = variables.get(field_name)
            if path and plain:
                return _given_twice(field_name), field_name, False
            if path or plain:
                return (read_secret(path, field_name) if path else None), field_name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return every secret that a file was given for."""
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(fields[name], name)[0] for name in self._secrets}
        return {name: value for name, value in found.items() if value is not None}


def _given_twice(field_name: str) -> SecretFault:
    name = field_name.upper()
    return SecretFault(f"is given twice, also as {name}_FILE; keep one of the two")


def read_secret(path: str, field_name: str) -> str | SecretFault:
    """Return a file's text without the line break at its end.

    Args:
        path: The file.
        field_name: The secret's field, for the fault.

    Returns:
        The secret, or why there is none.
    """
    name = f"{field_name.upper()}_FILE"
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_SECRET_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return SecretFault(
            f"cannot be read from {path!r}, which {name} names ({reason}); "
            "correct the path, or what the file allows"
        )
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret or len(content) > LARGEST_SECRET_BYTES:
        size = "too large for a secret" if secret else "empty"
        return SecretFault(f"is read from {path!r}, which {name} names, but that file is {size}")
    return secret


def environment_of(settings_cls: type[BaseSettings]) -> Variables:
    """Return the process's environment, names in small letters, empty values left out."""
    return EnvSettingsSource(settings_cls, case_sensitive=False, env_ignore_empty=True).env_vars


def misspelt(given: set[str], known: set[str]) -> list[tuple[str, str]]:
    """Find variables that look like settings and are none.

    Args:
        given: The names of the variables that are set, in capitals.
        known: The names of all settings, in capitals.

    Returns:
        Pairs of the name given and the nearest name that exists.
    """
    pairs = []
    for name in sorted(given - known):
        if _PREFIXES.match(name) and not _SERVICE_LINK.search(name):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            pairs += [(name, nearest[0])] if nearest else []
    return pairs
