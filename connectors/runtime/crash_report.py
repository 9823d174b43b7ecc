"""What Bytewax ends with, in one line: its own errors arrive as Rust's, with a trace of no use."""

from __future__ import annotations

import re
import sys
import traceback
from types import TracebackType

from connectors.observability import logs

_KNOWN = (
    (
        r'SqliteFailure\(.*?Some\("(?P<why>[^"]*)"\)|database or disk is full|disk I/O error',
        "the recovery store cannot be written",
        "see that its disk has space and can be written, then start again; nothing is lost",
    ),
    (
        r"MissingPartitions",
        "the recovery store lacks partitions",
        "move them to the directory of process 0 with `gibsey-embedder gather`, then start again",
    ),
    (
        r"InconsistentPartitions",
        "the recovery store's partitions are of different ages",
        "put back those that belong together, or start with a new store",
    ),
    (
        r"failed to initialize networking: (Address already in use|Cannot assign requested)",
        "this process cannot listen at its own address of the cluster",
        "correct its place in BYTEWAX_ADDRESSES (-a) or in the hosts file, or end what listens",
    ),
    (
        r"(Send|Recv|Receive) thread panic|[Cc]onnection reset by peer|[Bb]roken pipe",
        "another process of the cluster has ended",
        "start all of them again; they go on together where they were",
    ),
)


def explain(error: BaseException) -> tuple[str, str]:
    """Put an error into words.

    Returns:
        What happened, and what to do about it, empty where nobody knows.
    """
    text = _texts(error)
    for pattern, words, remedy in _KNOWN:
        if found := re.search(pattern, text, re.DOTALL):
            why = found.groupdict().get("why")
            return (f"{words}: {why}" if why else words), remedy
    last = _last_cause(error)
    return f"{type(last).__name__}: {last}", ""


def install() -> None:
    """Have whatever ends the main thread said in one line."""
    sys.excepthook = _say


def _say(_kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    reason, remedy = explain(error)
    log = logs.get("stream")
    log.error("fatal", where="bytewax", error=reason, **({"remedy": remedy} if remedy else {}))
    log.debug("fatal", trace="".join(traceback.format_exception(type(error), error, trace)))


def _texts(error: BaseException) -> str:
    found = []
    known: BaseException | None = error
    while known is not None:
        found.append(f"{type(known).__name__}: {known}")
        known = known.__cause__ or known.__context__
    return "\n".join(found)


def _last_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
