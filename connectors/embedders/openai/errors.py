"""The errors in OpenAI's responses, recognised by their code, then by their status.

    TransientError           rate limits, overload, any 5xx
    ConfigurationError       key, quota, model, address
    RejectedError            any other refused input
    └── TextTooLongError

Source: the error codes in OpenAI's API reference.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from connectors.core.errors import ConfigurationError, RejectedError, ServiceError, TransientError
from connectors.embedders.base import TextTooLongError
from connectors.http.address import address_of
from connectors.http.response import Response

QUOTA_PAUSE_S = 60.0
"""The pause after a quota error, which lasts until somebody adds credit."""

_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_TOO_LONG = re.compile(
    r"context length|context_length|maximum context|max \d+ tokens|too long|too many tokens"
    r"|maximum (input|request|number of tokens)",
    re.IGNORECASE,
)
_SETTINGS = frozenset({"model", "dimensions", "encoding_format"})
_BUSY = frozenset({408, 409, 425, 429, 499})


@dataclass(frozen=True, slots=True)
class ApiError:
    """The error in a response.

    Attributes:
        text: The message, in one line.
        code: The `code`, else the `type`; empty if it has neither.
        param: The parameter of the request that is wrong; empty if it names none.
    """

    text: str
    code: str = ""
    param: str = ""


def api_error_of(body: bytes) -> ApiError:
    """Return the error in a body: OpenAI's form, a compatible server's, or any text."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    if not isinstance(error, dict):
        text = error if isinstance(error, str) else body[:1200].decode(errors="replace")
        return ApiError(_line(text))
    text = error.get("message") or error.get("detail") or body[:1200].decode(errors="replace")
    code = error.get("code") or error.get("type") or ""
    return ApiError(_line(str(text)), str(code), str(error.get("param") or ""))


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def error_of(
    response: Response, redact: Callable[[str], str], *, name: str, model: str
) -> ServiceError:
    """Return the error that a response reports.

    Args:
        response: A response other than 2xx.
        redact: Removes the key from a text of the server.
        name: The server, for messages.
        model: The model of the request.
    """
    error, status = api_error_of(response.body), response.status
    detail = f"{name} answered {status}: {redact(error.text)}"
    if error.code in _QUOTA:
        return _quota_error(detail, status)
    if status in (400, 413, 422):
        return _input_error(status, error, detail)
    if status in (404, 403) and "model" in (error.code + error.text).lower():
        remedy = f"set OPENAI_MODEL to a model that this account may use, not {model}"
        return ConfigurationError(detail, remedy=remedy, status=status)
    if status in (401, 403, 407):
        # the server's text is left out, because it quotes a part of the key
        return ConfigurationError(
            f"{name} does not accept the key (status {status})",
            remedy="set OPENAI_API_KEY to a valid key",
            status=status,
        )
    if status >= 500 or status in _BUSY:
        return TransientError(detail, retry_after_s=response.retry_after_s, status=status)
    return _address_error(response, detail, name)


def _input_error(status: int, error: ApiError, detail: str) -> ServiceError:
    if status == 413 or _TOO_LONG.search(f"{error.code} {error.text}"):
        return TextTooLongError(detail)
    names_dimensions = "specifying dimensions" in error.text
    if error.param in _SETTINGS or error.code == "model_not_found" or names_dimensions:
        remedy = "set OPENAI_MODEL to a model that accepts this, such as text-embedding-3-small"
        return ConfigurationError(detail, remedy=remedy, status=status)
    return RejectedError(detail)


def _quota_error(detail: str, status: int) -> ConfigurationError:
    remedy = "add credit to the account, or set OPENAI_API_KEY to the key of another account"
    error = ConfigurationError(detail, remedy=remedy, status=status)
    error.retry_after_s = QUOTA_PAUSE_S
    return error


def _address_error(response: Response, detail: str, name: str) -> ConfigurationError:
    if 300 <= response.status < 400:
        target = address_of(response.headers.get("location", ""))
        detail = f"{name} redirects to {target} (status {response.status})"
    remedy = "set OPENAI_URL to the server's root, such as https://api.openai.com"
    return ConfigurationError(detail, remedy=remedy, status=response.status)
