"""Striking secrets out of text that services, people or libraries wrote."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "***"
SHORTEST_CHARS = 4
"""A shorter secret is no secret, and to strike it out would garble every line."""
UNMISTAKABLE_CHARS = 12
"""From this length on a secret is found within longer words, too; a shorter one may be a word
itself (`cassandra`), which others contain."""


class Redactor:
    """Texts that nobody may read, and what a text is without them.

    Args:
        values: The secrets.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        self.learn(values)

    def learn(self, values: Iterable[str]) -> None:
        """Know these secrets, and no others any more."""
        kept = {value for value in values if len(value) >= SHORTEST_CHARS}
        longest_first = sorted(kept, key=len, reverse=True)
        found = "|".join(map(_as_pattern, longest_first))
        self._pattern = re.compile(found) if found else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def __repr__(self) -> str:
        return f"Redactor({MASK})"

    def redact(self, text: str) -> str:
        """The text with `***` in the place of every secret."""
        return self._pattern.sub(MASK, text) if self._pattern else text


def _as_pattern(secret: str) -> str:
    """What finds a secret: a short one only where no letter or digit continues it."""
    pattern = re.escape(secret)
    if len(secret) >= UNMISTAKABLE_CHARS:
        return pattern
    before = r"(?<![^\W_])" if secret[0].isalnum() else ""
    after = r"(?![^\W_])" if secret[-1].isalnum() else ""
    return before + pattern + after
