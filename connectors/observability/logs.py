"""The log: lines for people or for collectors, on stderr, without secrets.

`LOG_FORMAT` selects lines for people (`console_format.py`) or one JSON object on each line.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, Literal, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from connectors.observability.console_format import console_renderer
from connectors.observability.redaction import Redactor

Logger = FilteringBoundLogger

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_redactor = Redactor()
"""The secrets of this process, which has one log."""

_NOT_REDACTED = ("timestamp", "level", "logger_name")
"""Parts of a line that this program writes itself. They are never secrets."""


def get(name: str) -> Logger:
    """Return the logger of one part of the program.

    Args:
        name: The part: `stream`, or the name of a `Service`.
    """
    return cast("Logger", structlog.get_logger(logger_name=name))


def configure(
    level: str = "info",
    fmt: Literal["console", "json"] = "console",
    secrets: Iterable[str] = (),
    on_line: Callable[[Mapping[str, object]], None] | None = None,
) -> None:
    """Configure the log of this process; called once, at the start.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        fmt: `console`: compact lines, coloured on a terminal; `json`: one object on each line.
        secrets: Texts that no line may contain.
        on_line: Called with the parts of each line, without secrets, before it is written.
    """
    _redactor.set_secrets(secrets)
    last = _json_processors() if fmt == "json" else _console_processors(sys.stderr.isatty())
    processors = [structlog.processors.add_log_level, *last[:-1], _redact_line]
    if on_line is not None:
        processors.append(_call(on_line))
    structlog.configure(
        processors=[*processors, last[-1]],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )
    _route_standard_logging()


def redact(text: str) -> str:
    """Return a text without secrets, as the log shows it, for output elsewhere."""
    return _redactor.redact(text)


def _json_processors() -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str),
    ]


def _console_processors(colours: bool) -> list[Processor]:
    return [
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.processors.format_exc_info,
        console_renderer(colours),
    ]


def _redact_line(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace every secret by `***`."""
    if not _redactor:
        return event
    return {
        key: value if key in _NOT_REDACTED else _redact_value(value) for key, value in event.items()
    }


def _redact_value(value: Any) -> Any:
    if isinstance(value, str):
        return _redactor.redact(value)
    if isinstance(value, int | float) or value is None:
        return value
    if isinstance(value, Mapping):
        return {_redact_value(key): _redact_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(item) for item in value]
    return _redact_value(str(value))


class _Stderr:
    """Writes complete lines to stderr. A closed stderr does not stop the stream."""

    _lock = threading.Lock()

    def __init__(self, *_names: object) -> None:
        pass

    def msg(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    log = debug = info = warning = error = critical = exception = fatal = msg


def _call(on_line: Callable[[Mapping[str, object]], None]) -> Processor:
    def call(_logger: object, _method: str, event: EventDict) -> EventDict:
        on_line(event)
        return event

    return call


class _StructlogHandler(logging.Handler):
    """Passes the log records of libraries to this log, under their names."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: MutableMapping[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        try:
            get(record.name).log(record.levelno, record.getMessage(), **facts)
        except Exception:  # noqa: BLE001 - as in every handler, for a malformed record
            self.handleError(record)


def _route_standard_logging() -> None:
    root = logging.getLogger()
    root.handlers = [_StructlogHandler()]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
