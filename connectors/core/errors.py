"""The three kinds of failure, and how each is answered.

    ServiceError
    ├── Transient        the service is away or busy: try again for as long as it takes
    │   └── SetupFault   it will not heal by itself: name the setting, wait, lose nothing
    └── PageRefused      this page's own fault: a dead letter, the others go on

Clients raise these and nothing else; what libraries raise is mapped at the border
(`connectors.http.client`), so that no step has to know a library's exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass


class ServiceError(Exception):
    """A service did not do what was asked of it.

    Args:
        detail: What happened, in words that a person can act on, without secrets.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Transient(ServiceError):
    """A fault that passes: refused connection, time-out, 429, 5xx, a model being loaded.

    Args:
        detail: What happened.
        retry_after_s: Seconds the service asked to wait (its Retry-After), if it did.
        status: The HTTP status of the answer, if there was one.
        lasted_s: Seconds that the service had been silent for when this was raised.
    """

    def __init__(
        self,
        detail: str,
        *,
        retry_after_s: float | None = None,
        status: int | None = None,
        lasted_s: float = 0.0,
    ) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.status = status
        self.lasted_s = lasted_s


class SetupFault(Transient):
    """A fault of the set-up: a wrong model, table, port, password.

    It is waited for like a transient one, since somebody will mend it and nothing may be lost
    until then, but it is reported at once and with its remedy.

    Args:
        detail: What is wrong.
        remedy: What to do about it, naming the setting.
    """

    def __init__(self, detail: str, *, remedy: str, status: int | None = None) -> None:
        super().__init__(detail, status=status)
        self.remedy = remedy


class PageRefused(ServiceError):
    """A page that a service will never take, however often it is asked."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an output gave one row up, as a dead letter says it.

    Attributes:
        reason: One of `connectors.observability.metrics.REASONS`.
        detail: One sentence for a person.
    """

    reason: str
    detail: str


class IncompatibleStoreError(Exception):
    """The recovery store was written by a version with another layout.

    Args:
        holds: What the store holds.
        needs: What this program needs in its place.
    """

    def __init__(self, holds: str, needs: str) -> None:
        super().__init__(
            f"the recovery store has {holds}, this program needs {needs}; finish with the old "
            "version, or remove the store: one process goes on at the group's committed offset, "
            "a cluster begins at the topic's earliest"
        )
