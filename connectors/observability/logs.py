"""The log: lines for people or for collectors, on stderr, without secrets.

A line is an event in words and its facts as `key=value`. What comes from outside (ids, answers)
cannot break a line or colour a terminal: what is not printable is escaped.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal, cast

import structlog
from structlog.dev import (
    Column,
    ColumnFormatter,
    ConsoleRenderer,
    KeyValueColumnFormatter,
    plain_traceback,
)
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from connectors.observability.redaction import Redactor

Logger = FilteringBoundLogger

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_hidden = Redactor()
"""The secrets of this process; one log a process, so one collection."""

_OWN = ("timestamp", "level", "logger_name")
"""Parts of a line that this program writes itself: no secret, whatever they look like."""

_LEVEL_COLOURS = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31;1m",
    "critical": "\x1b[31;1m",
}


def get(name: str) -> Logger:
    """Return the logger of one part of the program.

    Args:
        name: What speaks: `stream`, `kafka`, `embedder`, `stargate`, `rag`, ...
    """
    return cast("Logger", structlog.get_logger(logger_name=name))


def configure(
    level: str = "info",
    fmt: Literal["console", "json"] = "console",
    secrets: Iterable[str] = (),
    watch: Callable[[Mapping[str, object]], None] | None = None,
) -> None:
    """Set up the log of this process; called once, early.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        fmt: `console`: compact lines, coloured on a terminal; `json`: one object a line.
        secrets: Texts to strike out wherever they would appear.
        watch: Called with each line's parts, secrets struck out, before it is written.
    """
    _hidden.learn(secrets)
    ending = _json_ending() if fmt == "json" else _console_ending(sys.stderr.isatty())
    steps = [structlog.processors.add_log_level, *ending[:-1], _strike]
    if watch is not None:
        steps.append(_shown_to(watch))
    structlog.configure(
        processors=[*steps, ending[-1]],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )
    _route_standard_logging()


def redact(text: str) -> str:
    """A text as the log would show it: for what services answered, where it goes elsewhere."""
    return _hidden.redact(text)


def _json_ending() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str),
    ]


def _console_ending(colours: bool) -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.processors.format_exc_info,
        ConsoleRenderer(
            columns=_columns(colours), sort_keys=False, exception_formatter=plain_traceback
        ),
    ]


def _columns(colours: bool) -> list[Column]:
    """Return time, level, speaker and event aligned, then the facts."""
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
    """Return text on one line, what a terminal would not print escaped."""
    text = str(value)
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return "".join(escaped)


def _fact(value: object) -> str:
    """Return a value as it stands after `key=`: quoted where its end would not be seen."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = _printable(value)
    if text and not any(c in text for c in ' ="'):
        return text
    return '"' + text.replace('"', r"\"") + '"'


def _strike(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put `***` in the place of every secret."""
    if not _hidden:
        return event
    return {key: value if key in _OWN else _clean(value) for key, value in event.items()}


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _hidden.redact(value)
    if isinstance(value, int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    return _clean(str(value))


class _Stderr:
    """Writes lines to stderr, whole; one that nobody reads any more never stops the stream."""

    _lock = threading.Lock()

    def __init__(self, *_names: object) -> None:
        pass

    def msg(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    log = debug = info = warning = error = critical = exception = fatal = msg


def _shown_to(watch: Callable[[Mapping[str, object]], None]) -> Processor:
    def show(_logger: object, _method: str, event: EventDict) -> EventDict:
        watch(event)
        return event

    return show


class _IntoStructlog(logging.Handler):
    """Hands what libraries log to this log, under their names."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: MutableMapping[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        try:
            get(record.name).log(record.levelno, record.getMessage(), **facts)
        except Exception:  # noqa: BLE001 - as every handler: a library's bad log line harms nobody
            self.handleError(record)


def _route_standard_logging() -> None:
    root = logging.getLogger()
    root.handlers = [_IntoStructlog()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
