"""A page id as the last segment of a Stargate URL."""

from __future__ import annotations

from urllib.parse import quote

_JAVA_8_WHITE_SPACE = "\u180e"
"""White space for Java 8, whose version of Unicode is older than Python's."""


def path_segment(page_id: str) -> str:
    """Percent-encode a page id so that Stargate reads back exactly this id.

    Stargate 2.0 decodes the segment, trims it and removes an outer pair of single quotes, inside
    which `''` is one quote (observed, and in its `Converters.toCqlValue`). So an id that this
    would change is quoted first. `.` and `..` are quoted too, because HTTP libraries and proxies
    remove them as dot segments, some even when they are written `%2E%2E`.

    Args:
        page_id: Any text without lone surrogates.

    Returns:
        Only ASCII letters, digits, `-`, `.`, `_`, `~` and `%XX`, so it cannot end its segment,
        begin a query or break a line.

    Raises:
        UnicodeEncodeError: The id contains a lone surrogate, which UTF-8 cannot represent.
    """
    if _needs_quotes(page_id):
        page_id = "'" + page_id.replace("'", "''") + "'"
    return quote(page_id, safe="")


def _needs_quotes(page_id: str) -> bool:
    if not page_id:  # Stargate has no row without an id, quoted or not
        return False
    first, last = page_id[0], page_id[-1]
    return page_id in (".", "..") or "'" in (first, last) or _is_trimmed(first) or _is_trimmed(last)


def _is_trimmed(char: str) -> bool:
    """Return whether some way to trim a text removes a character.

    Stargate uses Java's `String.trim`: everything up to U+0020. Other versions may trim by
    Unicode; an id that is quoted without need is still read back exactly.
    """
    return char <= " " or char.isspace() or char in _JAVA_8_WHITE_SPACE
