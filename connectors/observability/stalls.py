"""The services that the stream waits for.

The log reports a stall at its start, once a minute, and at its end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from connectors.core.errors import ConfigurationError, RetryableError, ServiceError
from connectors.observability import logs
from connectors.observability.metrics import Metrics

MIN_STALL_S = 1.0
"""A shorter failure is retried without a log line."""

REPEAT_S = 60.0
"""Seconds between two log lines of one stall."""

REPEAT_CHANGED_S = 5.0
"""The same, if the reason has changed."""


@dataclass(frozen=True, slots=True)
class Stall:
    """A service that the stream waits for.

    Attributes:
        service: The name of a `connectors.core.services.Service`.
        reason: What happened.
        remedy: What to do, or empty if there is nothing to do but wait.
        since: When the first failure occurred (seconds since 1970).
        faults: How many failures have occurred since.
    """

    service: str
    reason: str
    remedy: str
    since: float
    faults: int = 1


class Stalls:
    """The stalls of one process. Any thread may report and read them.

    Args:
        metrics: Where `gibsey_stalled` and `gibsey_retries_total` are kept.
        clock: Seconds since 1970, for tests.
        min_stall_s: A shorter failure is not a stall.
    """

    def __init__(
        self,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        min_stall_s: float = MIN_STALL_S,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._min_stall_s = min_stall_s
        self._lock = threading.Lock()
        self._stalls: dict[str, Stall] = {}
        self._logged_at: dict[str, float] = {}
        self._log = logs.get("stream")

    def waiting(
        self,
        service: str,
        reason: str,
        remedy: str = "",
        *,
        at_once: bool = False,
        lasted_s: float = 0.0,
    ) -> None:
        """Report one more failure of a service.

        Args:
            service: The service.
            reason: What happened.
            remedy: What a person can do about it.
            at_once: Log the stall at once; it does not end by itself.
            lasted_s: Seconds for which the service had been silent at this failure.
        """
        reason = logs.redact(reason)  # the status port shows it
        now = self._clock()
        with self._lock:
            known = self._stalls.get(service)
            since, faults = (known.since, known.faults) if known else (now - lasted_s, 0)
            stall = Stall(service, reason, remedy, since, faults + 1)
            self._stalls[service] = stall
            lasts = at_once or self._lasts(stall, now)
            has_changed = known is not None and known.reason != reason
            is_due = lasts and self._is_due(service, now, has_changed)
            if lasts:  # under the lock, as in `cleared`, so that an old 1 never replaces a new 0
                self._metrics.stalled.labels(service).set(1)
        if is_due:
            self._log_stall(stall, now)

    def _lasts(self, stall: Stall, now: float) -> bool:
        return bool(stall.remedy) or now - stall.since >= self._min_stall_s

    def _is_due(self, service: str, now: float, has_changed: bool) -> bool:
        pause_s = REPEAT_CHANGED_S if has_changed else REPEAT_S
        if now - self._logged_at.get(service, float("-inf")) < pause_s:
            return False
        self._logged_at[service] = now
        return True

    def _log_stall(self, stall: Stall, now: float) -> None:
        self._log.warning(
            "waiting",
            service=stall.service,
            reason=stall.reason,
            since_s=round(now - stall.since),
            **({"remedy": stall.remedy} if stall.remedy else {}),
        )

    def failed(self, service: str, error: ServiceError) -> None:
        """Report a failed attempt, with the remedy if the error has one."""
        self._metrics.retries.labels(service).inc()
        remedy = error.remedy if isinstance(error, ConfigurationError) else ""
        lasted_s = error.lasted_s if isinstance(error, RetryableError) else 0.0
        self.waiting(service, error.detail, remedy, at_once=bool(remedy), lasted_s=lasted_s)

    def cleared(self, service: str, message: str = "answers again") -> None:
        """Report that the stream does not wait for a service any more.

        Args:
            service: The service.
            message: The log event, if the stall was logged.
        """
        if service not in self._stalls:  # no lock for the usual case
            return
        with self._lock:
            stall = self._stalls.pop(service, None)
            logged_at = self._logged_at.pop(service, None)
            self._metrics.stalled.labels(service).set(0)
        if stall is not None and logged_at is not None:
            self._log.info(message, service=service, after_s=round(self._clock() - stall.since, 1))

    def has(self, service: str) -> bool:
        """Return whether the latest attempt at a service failed."""
        return service in self._stalls

    def current(self) -> list[Stall]:
        """Return the stalls that have lasted long enough or have a remedy, oldest first."""
        now = self._clock()
        with self._lock:
            stalls = [replace(stall) for stall in self._stalls.values()]
        return sorted((s for s in stalls if self._lasts(s, now)), key=lambda s: s.since)
