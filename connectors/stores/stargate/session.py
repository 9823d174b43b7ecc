"""Requests to Stargate: the token, the timeout and the stage metric."""

from __future__ import annotations

import time
from collections.abc import Callable

from connectors.http.client import HttpClient
from connectors.http.response import Response
from connectors.observability.metrics import Metrics
from connectors.stores.stargate.auth import TokenSource
from connectors.stores.stargate.errors import is_unauthorized, rejected_token
from connectors.stores.stargate.service import SERVICE

TIMEOUT_S = 30.0
"""After a freeze, Stargate returned 500 after 15 to 20 s although it had stored the rows, so a
longer wait is cheaper than a retry."""


class StargateSession:
    """Sends requests with the token; shared by everything that talks to Stargate.

    Args:
        http: The process's HTTP client.
        tokens: Where tokens come from.
        timeout_s: Seconds for one request.
        metrics: Where `gibsey_stage_seconds{stage="stargate"}` is observed; None: nowhere.
    """

    def __init__(
        self,
        http: HttpClient,
        tokens: TokenSource,
        timeout_s: float = TIMEOUT_S,
        metrics: Metrics | None = None,
    ) -> None:
        self._http = http
        self._tokens = tokens
        self._timeout_s = timeout_s
        self._observe = metrics.stage.labels(SERVICE.name).observe if metrics else _ignore
        self._headers: tuple[str, dict[str, str]] = ("", _headers(""))

    async def send(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        rejects_token: Callable[[Response], bool] = is_unauthorized,
    ) -> Response:
        """Send one request; if Stargate rejects the token, send it again with a new one.

        Args:
            method: HTTP method.
            url: Encoded URL.
            body: JSON.
            rejects_token: Whether a response rejects the token.

        Raises:
            TransientError: No response; or Stargate could not check the token.
            ConfigurationError: Stargate rejects the new token too.
        """
        token = await self._tokens.current()
        response = await self._exchange(method, url, body, token)
        if not rejects_token(response):
            return response
        newer = await self._tokens.renewed(token)
        if newer != token:
            response = await self._exchange(method, url, body, newer)
            if not rejects_token(response):
                return response
        raise rejected_token(response, url, self._tokens.remedy)

    async def _exchange(self, method: str, url: str, body: bytes | None, token: str) -> Response:
        if self._headers[0] != token:
            self._headers = (token, _headers(token))
        began = time.perf_counter()
        response = await self._http.exchange(
            method, url, body=body, headers=self._headers[1], timeout_s=self._timeout_s
        )
        self._observe(time.perf_counter() - began)
        return response


def _headers(token: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    return {**headers, "X-Cassandra-Token": token} if token else headers


def _ignore(_: float) -> None:
    """Observe nothing."""
