"""Makes text from outside safe for a terminal."""

from __future__ import annotations


def printable(text: str, max_chars: int = 60) -> str:
    """Return a text on one line, with escaped control characters, cut to `max_chars`."""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: max_chars + 1])
    return line if len(line) <= max_chars else line[: max_chars - 1] + "…"
