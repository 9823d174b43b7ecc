"""Reads secrets from files, and finds misspelt variables."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from dataflow.config.values import InvalidSecret

LARGEST_SECRET_BYTES = 64 * 1024

_PREFIXES = re.compile(
    r"(KAFKA|EMBED|OPENAI|STARGATE|RAG|WINDOW|RECOVERY|SNAPSHOT|STATUS|DEAD_LETTER|HTTP_CA|CACHE)_"
)

_SERVICE_LINK = re.compile(r"_(SERVICE_(HOST|PORT).*|PORT|PORT_[0-9]+_(TCP|UDP).*)$")
"""Variables that Kubernetes sets in every pod for each service; they are not misspelt settings."""

Variables = Mapping[str, str | None]


class SecretFiles(PydanticBaseSettingsSource):
    """Reads each secret `NAME` from the file that `NAME_FILE` names.

    Args:
        settings_cls: The settings to fill.
        secrets: The names of the secret fields.
        levels: The variables of each source, in order of precedence; names in lower case.
    """

    def __init__(
        self, settings_cls: type[BaseSettings], secrets: tuple[str, ...], *levels: Variables
    ) -> None:
        super().__init__(settings_cls)
        self._secrets = secrets
        self._levels = levels

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the secret, an `InvalidSecret`, or None if there is no file."""
        del field
        for variables in self._levels:
            path = variables.get(f"{field_name}_file")
            plain = variables.get(field_name)
            if path and plain:
                return _duplicate(field_name), field_name, False
            if path or plain:
                return (read_secret(path, field_name) if path else None), field_name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all secrets that come from files, by field name."""
        fields = self.settings_cls.model_fields
        secrets = {name: self.get_field_value(fields[name], name)[0] for name in self._secrets}
        return {name: value for name, value in secrets.items() if value is not None}


def _duplicate(field_name: str) -> InvalidSecret:
    name = field_name.upper()
    return InvalidSecret(f"is set twice, also as {name}_FILE; keep one of the two")


def read_secret(path: str, field_name: str) -> str | InvalidSecret:
    """Return the text of a file without the final line break.

    Args:
        path: The file.
        field_name: The name of the secret's field, for the error message.

    Returns:
        The secret, or the reason why it is invalid.
    """
    name = f"{field_name.upper()}_FILE"
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_SECRET_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return InvalidSecret(
            f"cannot be read from {path!r}, the value of {name} ({reason}); "
            "correct the path or the file's permissions"
        )
    secret = text.removesuffix("\n").removesuffix("\r")
    if not secret or len(content) > LARGEST_SECRET_BYTES:
        size = "too large for a secret" if secret else "empty"
        return InvalidSecret(
            f"is read from {path!r}, the value of {name}, but that file is {size}; "
            "write the secret into it"
        )
    return secret


def environment_of(settings_cls: type[BaseSettings]) -> Variables:
    """Return the non-empty variables of the environment, with names in lower case."""
    return EnvSettingsSource(settings_cls, case_sensitive=False, env_ignore_empty=True).env_vars


def misspelt(given: set[str], known: set[str]) -> list[tuple[str, str]]:
    """Return variables that look like misspelt settings.

    Args:
        given: The names of the variables that are set, in upper case.
        known: The names of all settings, in upper case.

    Returns:
        Pairs of a variable's name and the most similar setting.
    """
    pairs = []
    for name in sorted(given - known):
        if _PREFIXES.match(name) and not _SERVICE_LINK.search(name):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
            pairs += [(name, nearest[0])] if nearest else []
    return pairs
