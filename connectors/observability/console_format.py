"""The format of log lines for people: an event, and its facts as `key=value`.

Characters that are not printable are escaped, so that text from outside (ids, responses) cannot
break a line or colour a terminal.
"""

from __future__ import annotations

from structlog.dev import (
    Column,
    ColumnFormatter,
    ConsoleRenderer,
    KeyValueColumnFormatter,
    plain_traceback,
)

_LEVEL_COLOURS = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31;1m",
    "critical": "\x1b[31;1m",
}


def console_renderer(colours: bool) -> ConsoleRenderer:
    """Make the renderer of lines: time, level, logger, event, facts.

    Args:
        colours: Whether lines have colours.
    """
    return ConsoleRenderer(
        columns=_columns(colours), sort_keys=False, exception_formatter=plain_traceback
    )


def _columns(colours: bool) -> list[Column]:
    """Return time, level, logger and event in columns, then the facts."""
    dim, bold, cyan, reset = ("\x1b[2m", "\x1b[1m", "\x1b[36m", "\x1b[0m") if colours else [""] * 4
    return [
        Column("timestamp", KeyValueColumnFormatter(None, dim, reset, str)),
        Column("level", _level_formatter(colours)),
        Column("logger_name", KeyValueColumnFormatter(None, dim, reset, str, width=9)),
        Column("event", KeyValueColumnFormatter(None, bold, reset, _printable, width=16)),
        Column("", KeyValueColumnFormatter(cyan, "", reset, _fact)),
    ]


def _level_formatter(colours: bool) -> ColumnFormatter:
    def format_level(key: str, value: object) -> str:
        del key
        text = f"{value!s:<7}"
        return f"{_LEVEL_COLOURS.get(str(value), '')}{text}\x1b[0m" if colours else text

    return format_level


def _printable(value: object) -> str:
    """Return a text on one line, with escapes for characters that a terminal does not print."""
    text = str(value)
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return "".join(escaped)


def _fact(value: object) -> str:
    """Return a value for `key=`, quoted if its end would not be visible."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = _printable(value)
    if text and not any(c in text for c in ' ="'):
        return text
    return '"' + text.replace('"', r"\"") + '"'
