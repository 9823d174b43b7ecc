"""The HTTP client: kept connections, complete responses, one hierarchy of errors.

`HttpClient.exchange` uses `connectors.http.pool`. It serves the three requests that every page
needs (window, row, notification), because a general client would cost more CPU than all other work
on a page. It also sends a path exactly as it is encoded, which page ids need.

`HttpClient.request` uses httpx and serves everything else (tokens, model check, commands). httpx
connects through anyio, which tries all addresses of a host: the next one 250 ms after the last.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
from yarl import URL

from connectors.core.errors import ConfigurationError
from connectors.http.errors import LIBRARY_ERRORS, ResponseTooLargeError, service_error
from connectors.http.pool import IDLE_S, ConnectionPool
from connectors.http.response import Response

CONNECT_TIMEOUT_S = 5.0
MAX_PORT = 65535
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""A batch of 2,048 vectors has 35 MB. No service sends a longer response to our requests."""


class HttpClient:
    """The process's HTTP client. It opens connections at the first request.

    It retries nothing, follows no redirect, stores no cookie and ignores the proxies that
    environment variables name. Use it on the event loop only.

    Args:
        ca_file: A file with the certificate authorities to trust instead of the system's.
        max_response_bytes: The largest body that it reads, after decompression.
    """

    def __init__(
        self, ca_file: str | None = None, max_response_bytes: int = MAX_RESPONSE_BYTES
    ) -> None:
        self._ca_file = ca_file
        self._max_response_bytes = max_response_bytes
        self._context: ssl.SSLContext | None = None
        self._pool = ConnectionPool(self._tls_context, CONNECT_TIMEOUT_S)
        self._clients: dict[bool, httpx.AsyncClient] = {}  # by whether they speak TLS

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> Response:
        """Send one request through the pool and read the complete response.

        Args:
            method: HTTP method.
            url: Absolute URL, already percent-encoded; sent unchanged.
            body: Body bytes.
            headers: Header fields.
            timeout_s: Seconds for the whole exchange, connecting included.

        Raises:
            TransientError: No complete response: refused, cut, timed out, too large.
            ConfigurationError: TLS failed, or the URL or a header field cannot be sent.
        """
        try:
            return await self._pool.exchange(
                method,
                url,
                body=body,
                headers=headers or {},
                timeout_s=timeout_s,
                max_bytes=self._max_response_bytes,
            )
        except LIBRARY_ERRORS as error:
            raise service_error(error, url, timeout_s) from error

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> Response:
        """Send one request through httpx; arguments and errors as for `exchange`."""
        try:
            return await asyncio.wait_for(
                self._request(method, url, body, headers, timeout_s), timeout_s
            )
        except LIBRARY_ERRORS as error:
            raise service_error(error, url, timeout_s) from error

    async def wait_until_reachable(self, url: str, pause_s: float = 2.0) -> None:
        """Wait until the host of a URL accepts a TCP connection, without sending a request.

        Args:
            url: Absolute URL.
            pause_s: Seconds between two attempts.
        """
        address = URL(url, encoded=True)
        while not await _accepts(address.host or "", address.port or 80):  # noqa: ASYNC110
            await asyncio.sleep(pause_s)

    async def close(self) -> None:
        """Close the connections."""
        self._pool.close()
        for client in self._clients.values():
            await client.aclose()

    async def _request(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> Response:
        target = httpx.URL(url)
        if (target.port or 0) > MAX_PORT:  # httpx does not check it
            raise httpx.InvalidURL("the port is too large")
        client = self._client(is_tls=target.scheme == "https")
        async with client.stream(
            method,
            target.copy_with(userinfo=b""),  # httpx logs the URL
            content=body,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            auth=(target.username, target.password) if target.userinfo else None,
        ) as response:
            content = await _read(response.aiter_bytes(), self._max_response_bytes)
            return Response(response.status_code, response.headers, content)

    def _client(self, *, is_tls: bool) -> httpx.AsyncClient:
        """Return the client for https or http; only https loads the authorities, in 20 ms."""
        if is_tls not in self._clients:
            empty = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts no certificate
            self._clients[is_tls] = httpx.AsyncClient(
                verify=self._tls_context() if is_tls else empty,
                limits=httpx.Limits(keepalive_expiry=IDLE_S),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # stores no cookie
                trust_env=False,
            )
        return self._clients[is_tls]

    def _tls_context(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(
                    f"the certificate file {self._ca_file} cannot be used: {error}",
                    remedy="set HTTP_CA_FILE to a readable PEM file",
                ) from error
        return self._context


async def _accepts(host: str, port: int) -> bool:
    connecting = asyncio.open_connection(host, port)
    try:
        _, writer = await asyncio.wait_for(connecting, CONNECT_TIMEOUT_S)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True


async def _read(chunks: AsyncIterator[bytes], max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise ResponseTooLargeError(max_bytes)
    return bytes(body)
