"""A page id as the last segment of a Stargate path."""

from __future__ import annotations

from urllib.parse import quote

_ALSO_WHITE = "\u180e"
"""White space for Java 8, whose Unicode is older than Python's."""


def path_segment(page_id: str) -> str:
    """Percent-encode a page id so that Stargate reads back exactly it.

    Stargate 2.0 decodes the segment, trims it and strips an outer pair of single quotes, inside
    which `''` is one quote (seen by running it, and in its `Converters.toCqlValue`). So an id
    that this would change is put in quotes first. `.` and `..` are too: HTTP libraries and
    proxies fold them away as dot segments, some even when they are written `%2E%2E`.

    Args:
        page_id: Any text without lone surrogates.

    Returns:
        ASCII letters, digits, `-`, `.`, `_`, `~` and `%XX` only: it cannot end its segment, open
        a query or break a line.

    Raises:
        UnicodeEncodeError: The id holds a lone surrogate, which no UTF-8 can say.
    """
    if _is_changed_on_the_way(page_id):
        page_id = "'" + page_id.replace("'", "''") + "'"
    return quote(page_id, safe="")


def _is_changed_on_the_way(page_id: str) -> bool:
    if not page_id:  # Stargate has no row without an id, quoted or not
        return False
    first, last = page_id[0], page_id[-1]
    return page_id in (".", "..") or "'" in (first, last) or _is_trimmed(first) or _is_trimmed(last)


def _is_trimmed(char: str) -> bool:
    """Whether any way to trim takes a character off.

    Stargate's is Java's `String.trim`: everything up to U+0020. Other versions may use one that
    knows Unicode; an id that is quoted without need is read back exactly all the same.
    """
    return char <= " " or char.isspace() or char in _ALSO_WHITE
