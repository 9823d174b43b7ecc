"""HTTP as the stream uses it: kept connections, whole answers, one kind of error.

`HttpClient.request` goes through httpx and serves everything that happens now and then.
`HttpClient.exchange` goes to `connectors.http.pool` and serves the two hot paths (windows in,
vectors out), where a client's layers would cost more than all else that is done for a page. It also
sends a path exactly as it was encoded, which page ids need.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from yarl import URL

from connectors.core.errors import ConfigurationError, RetryableError, TransientError
from connectors.http.connection import IncompleteResponseError, ResponseTooLargeError
from connectors.http.pool import ConnectionPool
from connectors.http.response import Response

CONNECT_TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A batch of 2,048 vectors is 35 MB; what is longer is not an answer to any of our questions."""


class HttpClient:
    """The process's HTTP client; used on the event loop only, opened at first use.

    Args:
        ca_file: A file with the certificate authorities to trust instead of the system's.
    """

    def __init__(self, ca_file: str | None = None) -> None:
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._pool = ConnectionPool(self._tls, CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None
        self._client: httpx.AsyncClient | None = None

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            try:
                self._context = ssl.create_default_context(cafile=self._ca_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(
                    f"the certificate file {self._ca_file} cannot be used: {error}",
                    remedy="set HTTP_CA_FILE to a readable PEM file",
                ) from error
        return self._context

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> Response:
        """Send one request as it is and read the whole answer.

        Args:
            method: HTTP method.
            url: Absolute URL, already percent-encoded; sent as it stands.
            body: Body bytes.
            headers: Header fields.
            timeout_s: Seconds for the whole exchange.

        Raises:
            TransientError: No answer: refused, cut, timed out, too long.
            ConfigurationError: TLS does not come about.
        """
        try:
            return await self._pool.exchange(
                method,
                url,
                body=body,
                headers=headers or {},
                timeout_s=timeout_s,
                max_bytes=MAX_ANSWER_BYTES,
            )
        except (OSError, asyncio.TimeoutError, ValueError) as error:
            raise _fault(error, url, timeout_s) from error

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float,
    ) -> Response:
        """The same through httpx's client, for all that is not on the hot path."""
        try:
            return await asyncio.wait_for(
                self._request(method, url, body, headers, timeout_s), timeout_s
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _fault(error.__cause__ or error, url, timeout_s) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
            raise _fault(error, url, timeout_s) from error

    async def _request(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        timeout_s: float,
    ) -> Response:
        client = self._client or self._open()
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        target = httpx.URL(url)
        login = (target.username, target.password) if target.userinfo else None
        async with client.stream(
            method,
            # both layers would write the login into a header, and the lower one minds
            target.copy_with(userinfo=b""),
            content=body,
            headers=headers,
            timeout=timeout,
            auth=login,
        ) as response:
            chunks = [chunk async for chunk in _limited(response.aiter_bytes(), url)]
            return Response(response.status_code, response.headers, b"".join(chunks))

    def _open(self) -> httpx.AsyncClient:
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls(), keepalive_timeout=30)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        self._client = httpx.AsyncClient(transport=AiohttpTransport(client=self._session))
        return self._client

    async def close(self) -> None:
        """Close the connections."""
        self._pool.close()
        if self._session is not None:
            await self._session.close()


async def _limited(chunks: AsyncIterator[bytes], url: str) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise _too_long(url)
        yield chunk


def _too_long(url: str) -> RetryableError:
    return TransientError(f"{address_of(url)} answered with more than {MAX_ANSWER_BYTES >> 20} MB")


def address_of(url: str) -> str:
    """Scheme, host and port of a URL: what a message may name without giving a secret away."""
    try:
        parsed = URL(url, encoded=True)
        named = f"{parsed.scheme}://{parsed.host}:{parsed.port}"
    except ValueError:  # also a port that is none
        return "the address"
    return named if parsed.host else "the address"


def _fault(error: BaseException, url: str, timeout_s: float) -> RetryableError:
    """What a library raised, as one of ours."""
    where = address_of(url)
    if isinstance(error, RetryableError):
        return error
    if isinstance(error, ResponseTooLargeError):
        return _too_long(url)
    if isinstance(error, (asyncio.TimeoutError, httpx.TimeoutException)):
        return TransientError(
            f"{where} did not answer within {timeout_s:.0f} s", lasted_s=timeout_s
        )
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, ssl.SSLCertVerificationError)):
        return ConfigurationError(
            f"{where} shows a certificate that is not trusted: {error}",
            remedy="set HTTP_CA_FILE to the authority that signed it",
        )
    if isinstance(error, (aiohttp.ClientConnectorSSLError, ssl.SSLError)):
        return ConfigurationError(
            f"TLS with {where} failed: {error}", remedy="use http:// if the port speaks plain HTTP"
        )
    if isinstance(error, (aiohttp.InvalidURL, httpx.InvalidURL)):
        return ConfigurationError(f"{where} is no usable address", remedy="correct the URL setting")
    if isinstance(error, ValueError) and not isinstance(error, aiohttp.ClientError):
        return ConfigurationError(
            f"the request to {where} cannot be sent: {error}",
            remedy="correct the URL setting or the token",
        )
    if isinstance(
        error, (aiohttp.ClientResponseError, IncompleteResponseError)
    ) and _TLS_ALERT in _reason(error):
        return ConfigurationError(f"{where} speaks TLS", remedy="use https:// in the URL setting")
    is_ours = isinstance(error, OSError) and not isinstance(
        error, (IncompleteResponseError, aiohttp.ClientError)
    )
    if is_ours or isinstance(error, aiohttp.ClientConnectorError):
        return TransientError(f"cannot connect to {where}: {_reason(error)}")
    return TransientError(f"{where} ended the connection without a whole answer ({_reason(error)})")


_TLS_ALERT = r"\x15\x03"
"""How a TLS server's refusal of plain HTTP begins, as both paths quote it."""


def _reason(error: BaseException) -> str:
    """What went wrong, on one line; without the URL, which may hold a password."""
    if isinstance(error, aiohttp.ClientResponseError):
        return " ".join(error.message.split())[:200]
    os_error = getattr(error, "os_error", error)
    number = getattr(os_error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number)
    words = getattr(os_error, "strerror", None) or str(os_error) or type(error).__name__
    return " ".join(words.split())[:200]
