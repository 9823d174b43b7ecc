"""The errors of HTTP, and how each becomes an error of `connectors.core.errors`.

    Exception
    ├── OSError                             no connection, or it broke
    │   ├── IncompleteResponseError         the response is not complete, or it is not HTTP
    │   │   └── ResponseTooLargeError
    │   └── ssl.SSLError                    TLS failed
    ├── asyncio.TimeoutError
    ├── ValueError                          the URL or a header field cannot be sent
    └── httpx.HTTPError, httpx.InvalidURL   the same errors, as httpx wraps them

`HttpClient` calls `service_error` at its boundary, so no caller sees these classes.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import cast

import httpx

from connectors.core.errors import ConfigurationError, RetryableError, TransientError
from connectors.http.address import address_of

_TLS_ALERTS = (r"\x15\x03", "illegal request line")
"""How the parsers report the bytes with which a TLS server rejects plain HTTP.

The pool and h11 quote the alert. h11 rejects its first byte (0x15) without a quotation.
"""

_ALL_FAILED = "All connection attempts failed"
"""anyio's text for a host that accepted no connection; the reason is the cause."""


class IncompleteResponseError(OSError):
    """The response is not complete, or it is not valid HTTP."""


class ResponseTooLargeError(IncompleteResponseError):
    """The response is larger than the caller allows.

    Args:
        max_bytes: The allowed size.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"more than {max_bytes >> 20} MB")


LIBRARY_ERRORS = (
    httpx.HTTPError,
    httpx.InvalidURL,
    asyncio.TimeoutError,  # from Python 3.11 on an OSError
    OSError,
    ValueError,
)
"""What the pool and httpx raise."""


def service_error(error: Exception, url: str, timeout_s: float) -> RetryableError:
    """Map an exception of a library to one of our errors.

    Args:
        error: One of `LIBRARY_ERRORS`.
        url: The URL of the request.
        timeout_s: Its timeout in seconds.

    Returns:
        The error to raise. Its text contains no part of the URL but the address.
    """
    address = address_of(url)
    if isinstance(error, (asyncio.TimeoutError, httpx.TimeoutException)):
        return TransientError(
            f"{address} did not answer within {timeout_s:.0f} s", lasted_s=timeout_s
        )
    if isinstance(error, ResponseTooLargeError):
        return TransientError(f"{address} answered with {error}")
    cause = _root_cause(error)
    return (
        _tls_error(cause, address)
        or _request_error(error, address)
        or _connection_error(error, cause, address)
    )


def _tls_error(cause: BaseException, address: str) -> ConfigurationError | None:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"{address} presents a certificate that is not trusted: {cause}",
            remedy="set HTTP_CA_FILE to the authority that signed it",
        )
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
        return ConfigurationError(
            f"TLS with {address} failed: {cause}",
            remedy="use http:// if the port speaks plain HTTP",
        )
    if any(alert in _reason(cause) for alert in _TLS_ALERTS):
        return ConfigurationError(f"{address} speaks TLS", remedy="use https:// in the URL setting")
    return None


def _request_error(error: Exception, address: str) -> ConfigurationError | None:
    """Return the error of a request that cannot be sent; None for any other error."""
    if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
        return ConfigurationError(
            f"{address} is not an http or https URL", remedy="correct the URL setting"
        )
    if isinstance(error, httpx.LocalProtocolError):  # its text may quote a token
        problem = "a header field contains a character that HTTP does not allow"
    elif isinstance(error, ValueError):
        problem = str(error)
    else:
        return None
    return ConfigurationError(
        f"the request to {address} cannot be sent: {problem}",
        remedy="correct the URL setting or the token",
    )


def _connection_error(error: Exception, cause: BaseException, address: str) -> TransientError:
    is_response = isinstance(error, (IncompleteResponseError, httpx.HTTPError))
    if is_response and not isinstance(error, httpx.ConnectError):
        return TransientError(f"{address} sent no complete response: {_reason(cause)}")
    return TransientError(f"cannot connect to {address}: {_reason(cause)}")


def _root_cause(error: BaseException) -> BaseException:
    """Return the exception that httpx, httpcore or anyio wrapped.

    Where all addresses of a host failed, this is the error of the last one: anyio tries IPv6 first.
    """
    while (inner := _wrapped(error)) is not None:
        error = inner
    return error


def _wrapped(error: BaseException) -> BaseException | None:
    attempts = getattr(error, "exceptions", None)  # an ExceptionGroup
    if attempts:
        return cast(BaseException, attempts[-1])
    library = type(error).__module__.partition(".")[0]
    if library in ("httpx", "httpcore", "anyio"):
        return error.__cause__ or error.__context__  # httpcore raises again `from None`
    return error.__cause__ if str(error) == _ALL_FAILED else None


def _reason(error: BaseException) -> str:
    """Return what happened, on one line."""
    number = getattr(error, "errno", None)
    is_system_error = not isinstance(error, ssl.SSLError)  # OpenSSL has numbers of its own
    if is_system_error and isinstance(number, int) and number > 0:
        return os.strerror(number)
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]
