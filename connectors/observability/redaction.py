"""Removes secrets from text that services, people or libraries wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"

MIN_SECRET_CHARS = 4
"""A shorter value is not redacted, because that would make every line unreadable."""

MIN_SUBSTRING_CHARS = 12
"""A secret of this length is also found inside longer words. A shorter one may be an ordinary word
(`cassandra`) that other words contain."""


class Redactor:
    """Replaces secrets in text.

    Args:
        secrets: The secrets.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.set_secrets(secrets)

    def set_secrets(self, secrets: Iterable[str]) -> None:
        """Redact these secrets from now on, and no others."""
        redacted = {secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}
        longest_first = sorted(redacted, key=len, reverse=True)
        patterns = "|".join(map(_pattern_of, longest_first))
        self._pattern = re.compile(patterns) if patterns else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def __repr__(self) -> str:
        return f"Redactor({MASK})"

    def redact(self, text: str) -> str:
        """Return the text with `***` instead of every secret."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def _pattern_of(secret: str) -> str:
    """Return the pattern of a secret; a letter or digit beside a short secret prevents a match."""
    pattern = re.escape(secret)
    if len(secret) >= MIN_SUBSTRING_CHARS:
        return pattern
    before = r"(?<![^\W_])" if secret[0].isalnum() else ""
    after = r"(?![^\W_])" if secret[-1].isalnum() else ""
    return before + pattern + after
