"""The findings of the doctor's checks: what a check saw and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectors.core.errors import ConfigurationError, ServiceError

Result = Literal["good", "warning", "bad"]

START_OR_CORRECT = "start the service, or correct the setting that names its address"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        check: What was checked: the service, and which part of it.
        result: `good`; `warning`: the stream runs, but degraded; `bad`: it does not run.
        found: What the check saw, in one sentence.
        remedy: What to do; empty if there is nothing to do.
    """

    check: str
    result: Result
    found: str
    remedy: str = ""


def good(check: str, found: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(check, "good", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding with which the stream runs, but degraded."""
    return Finding(check, "warning", found, remedy)


def bad(check: str, found: str, remedy: str) -> Finding:
    """Return a finding with which the stream does not run, or runs incorrectly."""
    return Finding(check, "bad", found, remedy)


def from_error(check: str, error: ServiceError, remedy: str = START_OR_CORRECT) -> Finding:
    """Return the finding of a service that failed a check.

    Args:
        check: What was checked.
        error: What the service's client raised.
        remedy: What to do if the error itself has no remedy.
    """
    own_remedy = error.remedy if isinstance(error, ConfigurationError) else remedy
    return bad(check, error.detail, own_remedy)
