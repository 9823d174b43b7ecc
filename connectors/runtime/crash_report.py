"""One line for an error that ends Bytewax: its own errors come from Rust, with a useless trace."""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType

from connectors.observability import logs

_KNOWN_ERRORS = (
    (
        r'SqliteFailure\(.*?Some\("(?P<cause>[^"]*)"\)|database or disk is full|disk I/O error',
        "the recovery store cannot be written",
        "free space on its disk and check its permissions, then start again; nothing is lost",
    ),
    (
        r"MissingPartitions",
        "the recovery store lacks partitions",
        "move them to the directory of process 0 with `gibsey-embedder gather`, then start again",
    ),
    (
        r"InconsistentPartitions",
        "the recovery store's partitions are of different ages",
        "restore all partitions of one backup, or start with a new store",
    ),
    (
        r"failed to initialize networking: (Address already in use|Cannot assign requested)",
        "this process cannot listen at its own address of the cluster",
        "correct its address in BYTEWAX_ADDRESSES (-a) or the hosts file, or free the port",
    ),
    (
        r"(Send|Recv|Receive) thread panic|[Cc]onnection reset by peer|[Bb]roken pipe",
        "another process of the cluster has ended",
        "start all processes again; they resume together",
    ),
)


def explain(error: BaseException) -> tuple[str, str]:
    """Find the reason of an error and its remedy.

    Returns:
        What happened, and what to do about it; the latter is empty for an unknown error.
    """
    text = _text_of_chain(error)
    for pattern, reason, remedy in _KNOWN_ERRORS:
        if match := re.search(pattern, text, re.DOTALL):
            cause = match.groupdict().get("cause")
            return (f"{reason}: {cause}" if cause else reason), remedy
    last = _last_cause(error)
    return f"{type(last).__name__}: {last}", ""


def install() -> None:
    """Report every error that ends the main thread in one line."""
    sys.excepthook = _report


def _report(_kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    reason, remedy = explain(error)
    log = logs.get("stream")
    log.error("fatal", where="bytewax", error=reason, **({"remedy": remedy} if remedy else {}))
    log.debug("fatal", trace="".join(traceback.format_exception(type(error), error, trace)))


def _text_of_chain(error: BaseException) -> str:
    lines = []
    current: BaseException | None = error
    while current is not None:
        lines.append(f"{type(current).__name__}: {current}")
        current = current.__cause__ or current.__context__
    return "\n".join(lines)


def _last_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
