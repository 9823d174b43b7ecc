"""The crash report of Bytewax's own errors."""

from __future__ import annotations

import pytest

from connectors.runtime.crash_report import explain

FULL = (
    "(src/run.rs:292:17) panicked at src/recovery.rs:626:22: called `Result::unwrap()` on an "
    "`Err` value: SqliteFailure(Error { code: SystemIoFailure, extended_code: 778 }, "
    'Some("disk I/O error"))'
)


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (RuntimeError(FULL), "recovery store cannot be written: disk I/O error", "free space"),
        (RuntimeError("Send thread panic: Any { .. }"), "another process", "start all"),
        (ValueError("MissingPartitionsError: x"), "lacks partitions", "gather"),
        (ValueError("InconsistentPartitionsError: x"), "different ages", "restore all partitions"),
        (ValueError("odd"), "ValueError: odd", ""),
    ],
)
def test_a_known_error_is_reported_with_its_remedy(
    error: Exception, reason: str, remedy: str
) -> None:
    report = explain(error)
    assert reason in report[0]
    assert remedy in report[1]


def test_the_last_cause_is_reported() -> None:
    wrapped = RuntimeError("wrapped")
    wrapped.__cause__ = KeyError("cause")
    assert explain(wrapped)[0] == "KeyError: 'cause'"
