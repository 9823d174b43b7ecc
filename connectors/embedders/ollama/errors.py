"""The errors in Ollama's responses, recognised by their text.

The status alone is not enough. When the process of the model dies in the middle of a request, one
version returns 500 and another 400. For a text that is too long, one path returns 400 and the other
500.

    TransientError           the process died, the queue is full, the model is being loaded, any 5xx
    ConfigurationError       the model is missing or not for embeddings, credentials, redirects
    └── MissingPathError     the server does not know this path
    RejectedError            NaN, and any other refused input
    └── TextTooLongError
"""

from __future__ import annotations

import re

import orjson

from connectors.core.errors import (
    ConfigurationError,
    RejectedError,
    RetryableError,
    ServiceError,
    TransientError,
)
from connectors.embedders.base import TextTooLongError
from connectors.http.address import address_of
from connectors.http.response import Response

_NO_MODEL = re.compile(r"model .*not found|try pulling it")
_NOT_FOR_EMBEDDING = re.compile(r"not support embed", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"context length|context size|too large to process|too long|maximum context", re.IGNORECASE
)
_NAN = re.compile(r"\bNaN\b|unsupported value|[+-]Inf\b")
_TRANSIENT = re.compile(
    r"\bEOF\b|(llama|model) runner|runner process|connection (refused|reset)|broken pipe"
    r"|unexpected server status|health resp|do embedding request|error reading"
    r"|loading model|server busy|timed? ?out|memory|canceled",
    re.IGNORECASE,
)
_MISSING_PATH = frozenset({404, 405, 410, 501})
_BUSY = frozenset({408, 425, 429, 499})
_BAD_INPUT = frozenset({400, 422})


class MissingPathError(ConfigurationError):
    """The server does not know this path: it is too old, too new, or not Ollama."""


def error_text_of(body: bytes) -> str:
    """Return the error text of a response: its JSON field `error`, else the whole body."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    error = parsed.get("error") if isinstance(parsed, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    text = error if isinstance(error, str) else body[:1200].decode(errors="replace")
    return " ".join(text.split())[:300]


def error_of(response: Response, text: str, *, name: str, model: str) -> ServiceError:
    """Return the error that a response reports.

    Args:
        response: A response other than 2xx.
        text: Its error text, without secrets.
        name: The server, for messages.
        model: The model of the request.
    """
    detail = f"{name} answered {response.status}: {text}"
    if _NO_MODEL.search(text):
        return ConfigurationError(
            f"{name} has no model {model}: {text}",
            remedy=f"run `ollama pull {model}` on the server at {name}, or correct EMBED_MODEL",
            status=response.status,
        )
    if _NOT_FOR_EMBEDDING.search(text):
        return not_for_embedding(name, model)
    if _TOO_LONG.search(text) or response.status == 413:
        return TextTooLongError(detail)
    if _NAN.search(text):
        return RejectedError(detail)
    if _TRANSIENT.search(text) or response.status in _BUSY:
        return _transient(response, detail)
    return _by_status(response, detail, name)


def not_for_embedding(name: str, model: str) -> ConfigurationError:
    """Return the error of a model that chats but makes no vectors."""
    return ConfigurationError(
        f"the model {model} at {name} makes no embeddings",
        remedy="set EMBED_MODEL to a model for embeddings, such as nomic-embed-text",
    )


def _by_status(response: Response, detail: str, name: str) -> ServiceError:
    status = response.status
    if status in _MISSING_PATH:
        return MissingPathError(
            f"{detail} (Ollama has that path)",
            remedy="set EMBED_URL to the server's root, such as http://ollama:11434",
            status=status,
        )
    if status in (401, 403, 407):
        return ConfigurationError(
            f"{name} rejects the credentials (status {status})",
            remedy="set EMBED_API_KEY to the key that the proxy in front of the embedder requires",
            status=status,
        )
    if 300 <= status < 400:
        target = address_of(response.headers.get("location", ""))
        return ConfigurationError(
            f"{name} redirects to {target} (status {status})",
            remedy="set EMBED_URL to the address of the embedder itself",
            status=status,
        )
    if status in _BAD_INPUT:
        return RejectedError(detail)
    if status >= 500:
        return _transient(response, detail)
    remedy = "check EMBED_URL: this is not a response of Ollama"
    return ConfigurationError(detail, remedy=remedy, status=status)


def _transient(response: Response, detail: str) -> RetryableError:
    if response.status == 503:
        detail = f"{detail} (its queue is full)"
    return TransientError(detail, retry_after_s=response.retry_after_s, status=response.status)
