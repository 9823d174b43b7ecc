"""The client of Ollama's embedding API: `/api/embed`, or the legacy path of an old server.

Sources: Ollama's API documentation, and the responses of 0.13.0 and 0.24.0.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence

import orjson
from typing_extensions import override
from yarl import URL

from connectors.core.errors import ConfigurationError, RejectedError, ServiceError, TransientError
from connectors.embedders import chunking, vector_parser
from connectors.embedders.base import ModelInfo, TextTooLongError
from connectors.embedders.base_client import BaseEmbedderClient
from connectors.embedders.ollama.errors import (
    MissingPathError,
    error_of,
    error_text_of,
    not_for_embedding,
)
from connectors.embedders.ollama.urls import root_of
from connectors.http.client import HttpClient
from connectors.http.response import Response
from connectors.observability import logs

CHECK_TIMEOUT_S = 60.0
"""The first request may have to wait until the model is loaded."""
LEGACY_S = 600.0
"""Seconds for which the client uses the legacy path before it tries `/api/embed` again."""
CONTEXT_TOKENS = 2048
"""The context of a model that does not report one; the context of nomic-embed-text in Ollama."""

CAPITALISED = ("Paris", "London")
"""Two different words, both capitalised."""

_SAME = 1e-3
"""Vectors of unit length closer than this are the same; different words are 0.1 apart or more."""
_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)\s*$", re.MULTILINE)


class OllamaClient(BaseEmbedderClient):
    """One Ollama server.

    Args:
        http: The process's HTTP client.
        url: `EMBED_URL`, or one of them.
        model: `EMBED_MODEL`.
        dimensions: `EMBED_DIMENSIONS`.
        api_key: `EMBED_API_KEY`, for a proxy.
        clock: Returns monotonic seconds; for tests.
    """

    def __init__(
        self,
        http: HttpClient,
        url: str,
        model: str,
        dimensions: int,
        api_key: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        root = root_of(url)
        if api_key and (user := URL(root)).user:  # only one Authorization header: the key's
            root = str(user.with_user(None)).rstrip("/")
        super().__init__(http, root, model=model, dimensions=dimensions, api_key=api_key)
        self._root = root
        self._clock = clock
        self._legacy_until = -math.inf
        self._has_logged_legacy = False
        self._context_tokens = CONTEXT_TOKENS

    @override
    async def _request_vectors(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[object]:
        if self._clock() >= self._legacy_until:
            try:
                return await self._request_batch(texts, timeout_s, truncate)
            except MissingPathError:
                pass  # if the legacy path is missing too, its error is the one to report
        try:
            vectors = await asyncio.wait_for(
                self._request_each(texts, timeout_s, truncate), timeout_s
            )
        except asyncio.TimeoutError as error:
            raise TransientError(f"{self.name} did not answer within {timeout_s:.0f} s") from error
        except MissingPathError:
            self._legacy_until = -math.inf
            raise
        if self._clock() < self._legacy_until:
            return vectors
        return await self._retry_batch(texts, timeout_s, truncate) or vectors

    async def _request_batch(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object]:
        content = {"model": self.model, "input": list(texts), "truncate": truncate}
        response = await self._post(f"{self._root}/api/embed", content, timeout_s)
        return self._vectors_of(response, "embeddings", len(texts))

    async def _request_each(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object]:
        """Send one text per request. The legacy path has no `truncate` and truncates silently."""
        if not truncate:
            max_chars = chunking.chars_for(self._context_tokens)
            if any(len(text) > max_chars for text in texts):
                raise TextTooLongError(
                    f"{self.name} may truncate texts of more than {max_chars} characters"
                )
        url = f"{self._root}/api/embeddings"
        responses = [
            await self._post(url, {"model": self.model, "prompt": text}, timeout_s)
            for text in texts
        ]
        return [r.get("embedding") if isinstance(r, dict) else None for r in responses]

    async def _retry_batch(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object] | None:
        """Return the vectors of a second batch; None if the path is really missing.

        A server that has just started may have known neither path for a moment.
        """
        try:
            return await self._request_batch(texts, timeout_s, truncate)
        except MissingPathError:
            self._use_legacy_path()
        except ServiceError:
            pass
        return None

    def _use_legacy_path(self) -> None:
        self._legacy_until = self._clock() + LEGACY_S
        if not self._has_logged_legacy:
            self._has_logged_legacy = True
            logs.get("embedder").warning(
                "this server has no /api/embed: the worker sends one text per request",
                endpoint=self.name,
            )

    async def check(self) -> ModelInfo:
        """As in `EmbedderClient`."""
        shown = await self._show_model()
        capabilities = shown.get("capabilities")
        if isinstance(capabilities, list) and capabilities and "embedding" not in capabilities:
            raise not_for_embedding(self.name, self.model)
        context_tokens = _context_tokens(shown)
        self._context_tokens = context_tokens or CONTEXT_TOKENS
        try:
            vectors = await self.embed(CAPITALISED, timeout_s=CHECK_TIMEOUT_S, truncate=True)
        except RejectedError as error:
            raise self._no_vectors_error(error.detail) from error
        return ModelInfo(
            dimensions=self._dimensions,
            context_tokens=context_tokens,
            capitals_defect=_are_the_same(vectors),
        )

    async def _show_model(self) -> Mapping[str, object]:
        """Return what the server reports about the model; nothing if a proxy hides that path."""
        response = await self._http.request(
            "POST",
            f"{self._root}/api/show",
            body=orjson.dumps({"model": self.model}),
            headers=self._headers,
            timeout_s=CHECK_TIMEOUT_S,
        )
        if response.ok:
            shown = self._parse(response)
            return shown if isinstance(shown, dict) else {}
        error = self._error_of(response)
        if isinstance(error, TransientError):
            raise error
        return {}  # the texts that follow show any other error

    @override
    def _parse_json(self, body: bytes) -> object:
        return vector_parser.parse(body)

    @override
    def _error_of(self, response: Response) -> ServiceError:
        text = self._key.redact(error_text_of(response.body))
        return error_of(response, text, name=self.name, model=self.model)

    @override
    def _dimensions_error(self, seen: int) -> ConfigurationError:
        return ConfigurationError(
            f"the model {self.model} at {self.name} makes vectors of {seen} dimensions "
            f"instead of {self._dimensions}",
            remedy=f"set EMBED_MODEL to a model of {self._dimensions} dimensions, or set "
            f"EMBED_DIMENSIONS to {seen} and fill the table again",
        )

    @override
    def _no_vectors_error(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name} makes no usable vector of any text: {reason}",
            remedy=f"restart the embedder, and check EMBED_URL and EMBED_MODEL ({self.model})",
        )


def _context_tokens(shown: Mapping[str, object]) -> int | None:
    """Return the smaller of the model's own context and its `num_ctx`; None without either."""
    contexts = [int(n) for n in _NUM_CTX.findall(str(shown.get("parameters", "")))]
    info = shown.get("model_info")
    for key, value in info.items() if isinstance(info, dict) else ():
        if str(key).endswith(".context_length") and type(value) is int:
            contexts.append(value)
    return min((n for n in contexts if n > 0), default=None)


def _are_the_same(vectors: Sequence[bytes | None]) -> bool:
    first, second = (orjson.loads(vector or b"[]") for vector in vectors)
    return len(first) == len(second) > 0 and math.dist(first, second) < _SAME
