"""The errors that clients raise, and what the stream does about each.

    ServiceError
    ├── RetryableError             wait and try again for as long as it takes; nothing is lost
    │   ├── TransientError         the service is unavailable or busy, and will recover by itself
    │   └── ConfigurationError     a person has to change a setting: wait, and report the remedy
    └── RejectedError              the service will never accept this page: dead letter

Clients raise these and nothing else. `connectors.http.errors` maps what libraries raise, so no
step needs to know a library's exceptions.
"""

from __future__ import annotations

from dataclasses import dataclass


class ServiceError(Exception):
    """A service did not do what the stream requested.

    Args:
        detail: What happened, for a person, without secrets.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class RetryableError(ServiceError):
    """An error that no page caused: the client retries the request until it succeeds.

    Args:
        detail: What happened.
        retry_after_s: The response's Retry-After in seconds; None if it has none.
        status: The HTTP status of the response; None if there was no response.
        lasted_s: Seconds without a response from the service when this was raised.
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


class TransientError(RetryableError):
    """The service will recover by itself: refused connection, timeout, 429, 5xx, model loading."""


class ConfigurationError(RetryableError):
    """The setup is wrong: a wrong model, table, port or password.

    The stream waits, as for a `TransientError`, but reports the error at once, with its remedy.

    Args:
        detail: What is wrong.
        remedy: What to do, with the name of the setting.
        status: The HTTP status of the response; None if there was no response.
        retry_after_s: Seconds until the next attempt; None: the usual pause.
    """

    def __init__(
        self,
        detail: str,
        *,
        remedy: str,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail, status=status, retry_after_s=retry_after_s)
        self.remedy = remedy


class RejectedError(ServiceError):
    """The service will never accept this page, however often the request is retried."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why an output gave up a row, for its dead letter.

    Attributes:
        reason: One of the `reasons` of a `connectors.core.services.Service`.
        detail: One sentence for a person.
    """

    reason: str
    detail: str


class IncompatibleRecoveryStoreError(Exception):
    """A version with another layout wrote the recovery store.

    Args:
        holds: The layout in the store.
        needs: The layout that this version needs.
    """

    def __init__(self, holds: str, needs: str) -> None:
        super().__init__(
            f"the recovery store has {holds}, but this version needs {needs}; let the old version "
            "finish first, or remove the store: one process then starts at the group's committed "
            "offset, and a cluster at the earliest offset"
        )
