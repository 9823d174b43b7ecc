"""Stargate's tokens: a fixed one, or one that is fetched and renewed with a password."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

import orjson

from connectors.core.errors import ConfigurationError, TransientError
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.http.response import Response

FETCH_TIMEOUT_S = 10.0

RENEWAL_PAUSE_S = 5.0
"""The least time between two fetches: a token that is rejected right after its fetch will not be
accepted after another one, and the auth service must not be flooded with passwords."""

_AUTH_URL_REMEDY = "set STARGATE_AUTH_URL to Stargate's auth service, port 8081 by default"


class TokenSource(Protocol):
    """Where requests to Stargate get their token.

    Attributes:
        remedy: What to change if Stargate keeps rejecting the token.
    """

    remedy: str

    async def current(self) -> str:
        """Return the token to use now."""
        ...

    async def renewed(self, rejected: str) -> str:
        """Return a token that replaces a rejected one; the same one if there is no other."""
        ...


class FixedToken:
    """A token from the settings.

    Args:
        token: The token; empty if Stargate needs none.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self.remedy = (
            "set STARGATE_AUTH_TOKEN to a valid token whose role has MODIFY on the table, or set "
            "STARGATE_USERNAME, STARGATE_PASSWORD and STARGATE_AUTH_URL to fetch tokens"
        )

    def __repr__(self) -> str:
        return "FixedToken(***)"

    async def current(self) -> str:
        """Return the token."""
        return self._token

    async def renewed(self, rejected: str) -> str:  # noqa: ARG002 - the protocol's signature
        """Return the same token: there is no other."""
        return self._token


class FetchedToken:
    """A token from Stargate's auth service, fetched at the first use and after a rejection.

    Stargate's tokens expire 1,800 s after their last use, so a token in use expires only after a
    pause or a restart of Stargate. Requests that need a new token at the same time share one fetch.

    Args:
        http: The process's HTTP client.
        username: Stargate's user.
        password: The user's password.
        auth_url: The URL of the auth service, e.g. `http://stargate:8081/v1/auth`.
        clock: Monotonic seconds, for tests.
    """

    def __init__(
        self,
        http: HttpClient,
        username: str,
        password: str,
        auth_url: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._body = orjson.dumps({"username": username, "password": password})
        self._url = auth_url
        self._clock = clock
        self._token: str | None = None
        self._fetch_task: asyncio.Task[str] | None = None
        self._next_fetch_at = float("-inf")
        self.remedy = "give the role of STARGATE_USERNAME the permission MODIFY on the table"

    def __repr__(self) -> str:
        return f"FetchedToken(from {address_of(self._url)}, ***)"

    async def current(self) -> str:
        """Return the token in use; fetched if there is none.

        Raises:
            TransientError: The auth service is unavailable.
            ConfigurationError: It rejects user name and password, or is not an auth service.
        """
        return self._token if self._token is not None else await self._fetched()

    async def renewed(self, rejected: str) -> str:
        """Return a newer token than the rejected one; the same within `RENEWAL_PAUSE_S` of a fetch.

        Raises:
            TransientError, ConfigurationError: As `current`.
        """
        if self._token == rejected:
            if self._clock() < self._next_fetch_at:
                return rejected
            self._token = None  # so that no request sends it meanwhile
        return await self.current()

    async def _fetched(self) -> str:
        task = self._fetch_task
        if task is None or (task.done() and self._clock() >= self._next_fetch_at):
            task = self._fetch_task = asyncio.create_task(self._fetch())
        # shielded: the cancellation of one request must not cancel the fetch for the others
        return await asyncio.shield(task)

    async def _fetch(self) -> str:
        try:
            response = await self._http.request(
                "POST",
                self._url,
                body=self._body,
                headers={"Content-Type": "application/json"},
                timeout_s=FETCH_TIMEOUT_S,
            )
            self._token = _token_in(response, address_of(self._url))
        finally:
            self._next_fetch_at = self._clock() + RENEWAL_PAUSE_S
        return self._token


def _token_in(response: Response, address: str) -> str:
    """Return the token in a response of `POST /v1/auth`, which is 201 `{"authToken"}`."""
    if not response.ok:
        raise _fetch_error(response, address)
    try:
        token = orjson.loads(response.body)["authToken"]
    except (ValueError, KeyError, TypeError):
        token = None
    if isinstance(token, str) and token.isascii() and token.isprintable():
        return token
    # the body may contain a token in another form, so the message does not quote it
    raise ConfigurationError(
        f"{address} answered {response.status} without a token", remedy=_AUTH_URL_REMEDY
    )


def _fetch_error(response: Response, address: str) -> TransientError | ConfigurationError:
    status = response.status
    if status in (400, 401, 403):
        return ConfigurationError(
            f"{address} gives no token ({status}: {response.text(200)})",
            remedy="correct STARGATE_USERNAME and STARGATE_PASSWORD",
            status=status,
        )
    if status in (408, 429) or status >= 500:
        return TransientError(
            f"{address} gives no token now ({status}: {response.text(200)})",
            retry_after_s=response.retry_after_s or None,
            status=status,
        )
    return ConfigurationError(
        f"{address} answered {status} to a request for a token",
        remedy=_AUTH_URL_REMEDY,
        status=status,
    )
