"""What Ollama's answers mean, told by their text: its status does not tell enough.

The death of the model's process, in the middle of a request, is 500 in one version and 400 in
another; a text that is too long is 400 on one path and 500 on the other.

    TransientError       the process died, the queue is full, the model is being loaded, any 5xx
    ConfigurationError      model not pulled or not for embeddings, credentials, redirects
    └── MissingPathError     this path is not there
    RejectedError     NaN, and what else is refused as input
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
_PASSES = re.compile(
    r"\bEOF\b|(llama|model) runner|runner process|connection (refused|reset)|broken pipe"
    r"|unexpected server status|health resp|do embedding request|error reading"
    r"|loading model|server busy|timed? ?out|memory|canceled",
    re.IGNORECASE,
)
_NO_PATH = frozenset({404, 405, 410, 501})
_BUSY = frozenset({408, 425, 429, 499})
_INPUT = frozenset({400, 422})


class MissingPathError(ConfigurationError):
    """The server does not know this path: too old, too new, or no Ollama at all."""


def words_of(body: bytes) -> str:
    """What a server says went wrong: the `error` of a JSON answer, else the text as it is."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    said = parsed.get("error") if isinstance(parsed, dict) else None
    if isinstance(said, dict):
        said = said.get("message")
    text = said if isinstance(said, str) else body[:1200].decode(errors="replace")
    return " ".join(text.split())[:300]


def meaning(answer: Response, words: str, *, name: str, model: str) -> ServiceError:
    """The failure that an answer stands for.

    Args:
        answer: An answer that is no success.
        words: What it says, without secrets.
        name: The server, as people are shown it.
        model: The model that was asked for.
    """
    said = f"{name} answered {answer.status}: {words}"
    if _NO_MODEL.search(words):
        return ConfigurationError(
            f"{name} has no model {model}: {words}",
            remedy=f"run `ollama pull {model}` on the server at {name}, or correct EMBED_MODEL",
            status=answer.status,
        )
    if _NOT_FOR_EMBEDDING.search(words):
        return not_for_embedding(name, model)
    if _TOO_LONG.search(words) or answer.status == 413:
        return TextTooLongError(said)
    if _NAN.search(words):
        return RejectedError(said)
    if _PASSES.search(words) or answer.status in _BUSY:
        return _busy(answer, said)
    return _by_status(answer, said, name)


def not_for_embedding(name: str, model: str) -> ConfigurationError:
    """The fault of a model that answers questions but makes no vectors."""
    return ConfigurationError(
        f"the model {model} at {name} makes no embeddings",
        remedy="set EMBED_MODEL to a model for embeddings, such as nomic-embed-text",
    )


def _by_status(answer: Response, said: str, name: str) -> ServiceError:
    status = answer.status
    if status in _NO_PATH:
        return MissingPathError(
            f"{said} (Ollama has that path)",
            remedy="set EMBED_URL to the server's root, such as http://ollama:11434",
            status=status,
        )
    if status in (401, 403, 407):
        return ConfigurationError(
            f"{name} wants other credentials (status {status})",
            remedy="set EMBED_API_KEY to the key that the proxy before the embedder wants",
            status=status,
        )
    if 300 <= status < 400:
        target = address_of(answer.headers.get("location", ""))
        return ConfigurationError(
            f"{name} sends us on to {target} (status {status})",
            remedy="set EMBED_URL to where the embedder itself answers",
            status=status,
        )
    if status in _INPUT:
        return RejectedError(said)
    if status >= 500:
        return _busy(answer, said)
    return ConfigurationError(said, remedy="check EMBED_URL: no Ollama answers so", status=status)


def _busy(answer: Response, said: str) -> RetryableError:
    if answer.status == 503:
        said = f"{said} (its queue is full)"
    return TransientError(said, retry_after_s=answer.retry_after_s, status=answer.status)
