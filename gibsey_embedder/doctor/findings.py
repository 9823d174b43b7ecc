"""What a check found: the row of the doctor's table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectors.core.errors import ConfigurationError, ServiceError

Result = Literal["good", "warning", "bad"]

WAIT = "start it, or correct the setting that says where it is"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: What was looked at: the service, and what of it.
        result: `good`; `warning`: the stream runs, but not as it might; `bad`: it does not.
        found: What was seen, in one sentence.
        remedy: What to do; empty where nothing needs to be done.
    """

    check: str
    result: Result
    found: str
    remedy: str = ""


def good(check: str, found: str) -> Finding:
    """A finding that asks for nothing."""
    return Finding(check, "good", found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """A finding with which the stream runs, but not as it might."""
    return Finding(check, "warning", found, remedy)


def bad(check: str, found: str, remedy: str) -> Finding:
    """A finding with which the stream does not run, or not right."""
    return Finding(check, "bad", found, remedy)


def from_error(check: str, error: ServiceError, remedy: str = WAIT) -> Finding:
    """The finding of a service that did not do what was asked.

    Args:
        check: What was looked at.
        error: What its client raised.
        remedy: What to do where the error itself does not say.
    """
    told = error.remedy if isinstance(error, ConfigurationError) else remedy
    return bad(check, error.detail, told)
