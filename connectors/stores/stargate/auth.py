"""TokenSource for Stargate: a fixed one, or one fetched and renewed with user name and password."""

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
"""Between two askings for a token, however many requests want one: a token that was fetched this
moment and is refused will not be helped by the next, and passwords are not to be hammered."""


class TokenSource(Protocol):
    """Where requests to Stargate get their token.

    Attributes:
        remedy: What to change where Stargate goes on refusing.
    """

    remedy: str

    async def current(self) -> str:
        """The token to use now."""
        ...

    async def renewed(self, refused: str) -> str:
        """Another token in the place of one that was refused, or the same if there is none."""
        ...


class FixedToken:
    """A token that is given by the settings.

    Args:
        token: The token; empty where Stargate asks for none.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self.remedy = (
            "set STARGATE_AUTH_TOKEN to a token that is valid and whose role has MODIFY on the "
            "table, or STARGATE_USERNAME and STARGATE_PASSWORD to have tokens fetched"
        )

    def __repr__(self) -> str:
        return "FixedToken(***)"

    async def current(self) -> str:
        """The token."""
        return self._token

    async def renewed(self, refused: str) -> str:  # noqa: ARG002 - as the protocol has it
        """The same token: there is no other."""
        return self._token


class FetchedToken:
    """A token from Stargate's auth service, fetched at first use and when it is refused.

    TokenSource live 1,800 s from their last use, so one in use is refused only after a pause or a
    restart of Stargate; a request that finds out costs one more round trip and no page.
    Requests that need a new one at the same time share one asking.

    Args:
        http: The process's HTTP client.
        username: Stargate's user.
        password: The user's password.
        auth_url: Where tokens are given, e.g. `http://stargate:8081/v1/auth`.
        clock: Seconds, for tests.
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
        self._order = orjson.dumps({"username": username, "password": password})
        self._url = auth_url
        self._clock = clock
        self._token: str | None = None
        self._asking: asyncio.Task[str] | None = None
        self._again_at = float("-inf")
        self.remedy = "give the role of STARGATE_USERNAME the permission MODIFY on the table"

    def __repr__(self) -> str:
        return f"FetchedToken(from {address_of(self._url)}, ***)"

    async def current(self) -> str:
        """The token in use; fetched if there is none.

        Raises:
            TransientError: The auth service does not answer.
            ConfigurationError: It refuses user name and password, or is no auth service.
        """
        return self._token if self._token is not None else await self._fetched()

    async def renewed(self, refused: str) -> str:
        """A newer token than the refused one; the same while the last asking is too recent.

        Raises:
            TransientError, ConfigurationError: As `current`.
        """
        if self._token == refused:
            if self._clock() < self._again_at:
                return refused
            self._token = None  # so that nobody sends it again meanwhile
        return await self.current()

    async def _fetched(self) -> str:
        asking = self._asking
        if asking is None or (asking.done() and self._clock() >= self._again_at):
            asking = self._asking = asyncio.create_task(self._fetch())
        # shielded: that one request is given up does not concern the others
        return await asyncio.shield(asking)

    async def _fetch(self) -> str:
        try:
            answer = await self._http.request(
                "POST",
                self._url,
                body=self._order,
                headers={"Content-Type": "application/json"},
                timeout_s=FETCH_TIMEOUT_S,
            )
            self._token = _token_in(answer, address_of(self._url))
        finally:
            self._again_at = self._clock() + RENEWAL_PAUSE_S
        return self._token


def _token_in(answer: Response, where: str) -> str:
    """The token in an answer of `POST /v1/auth`, which is 201 `{"authToken"}`."""
    if answer.ok:
        try:
            token = orjson.loads(answer.body)["authToken"]
        except (ValueError, KeyError, TypeError):
            token = None
        if isinstance(token, str) and token.isascii() and token.isprintable():
            return token
        # the body may hold a token in another shape, so it is not repeated
        raise ConfigurationError(
            f"{where} answered {answer.status} without a token",
            remedy="set STARGATE_AUTH_URL to Stargate's auth service, port 8081 by default",
        )
    if answer.status in (400, 401, 403):
        raise ConfigurationError(
            f"{where} gives no token ({answer.status}: {answer.text(200)})",
            remedy="correct STARGATE_USERNAME and STARGATE_PASSWORD",
            status=answer.status,
        )
    if answer.status == 429 or answer.status >= 500 or answer.status == 408:
        raise TransientError(
            f"{where} gives no token now ({answer.status}: {answer.text(200)})",
            retry_after_s=answer.retry_after_s or None,
            status=answer.status,
        )
    raise ConfigurationError(
        f"{where} answered {answer.status} when asked for a token",
        remedy="set STARGATE_AUTH_URL to Stargate's auth service, port 8081 by default",
        status=answer.status,
    )
