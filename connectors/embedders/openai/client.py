"""The client of OpenAI's embedding API, and of servers that are compatible with it.

Source: OpenAI's API reference (`POST /v1/embeddings`, error codes, rate limits).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from typing_extensions import override

from connectors.core.errors import ConfigurationError, RejectedError, ServiceError, TransientError
from connectors.embedders import chunking
from connectors.embedders.base import ModelInfo, TextTooLongError
from connectors.embedders.base_client import CANARY_TEXT, BaseEmbedderClient
from connectors.embedders.openai.errors import error_of
from connectors.embedders.openai.urls import endpoint_of
from connectors.http.client import HttpClient
from connectors.http.response import Response

DEFAULT_URL = "https://api.openai.com"
MAX_TEXTS = 2048
CONTEXT_TOKENS = 8192
"""The context of all of OpenAI's embedding models, for each text."""
MAX_REQUEST_TOKENS = 300_000
"""The most tokens of all texts of one request."""
CHECK_TIMEOUT_S = 30.0
CONCURRENCY = 4
"""Concurrent requests. OpenAI works on many at once, and 32 pages take half a second: four are
needed for 200 pages per second."""


class OpenAIClient(BaseEmbedderClient):
    """OpenAI, or a server that is compatible with it.

    Args:
        http: The process's HTTP client.
        url: `OPENAI_URL`.
        api_key: `OPENAI_API_KEY`.
        model: `OPENAI_MODEL`.
        dimensions: `EMBED_DIMENSIONS`; part of each request.
    """

    max_texts = MAX_TEXTS

    def __init__(
        self, http: HttpClient, url: str, api_key: str | None, model: str, dimensions: int
    ) -> None:
        self._url = endpoint_of(url or DEFAULT_URL)
        super().__init__(http, self._url, model=model, dimensions=dimensions, api_key=api_key)

    async def check(self) -> ModelInfo:
        """As in `EmbedderClient`."""
        try:
            await self.embed([CANARY_TEXT], timeout_s=CHECK_TIMEOUT_S, truncate=True)
        except RejectedError as error:
            raise self._no_vectors_error(error.detail) from error
        return ModelInfo(dimensions=self._dimensions, context_tokens=CONTEXT_TOKENS)

    @override
    async def _request_vectors(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[object]:
        try:
            return await asyncio.wait_for(
                self._request_in_turn(texts, timeout_s, truncate), timeout_s
            )
        except asyncio.TimeoutError as error:
            raise TransientError(f"{self.name} did not answer within {timeout_s:.0f} s") from error

    async def _request_in_turn(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object]:
        vectors: list[object] = []
        for batch in _batches(texts):
            vectors += await self._request_batch(batch, timeout_s, truncate)
        return vectors

    async def _request_batch(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object]:
        """Send one request. OpenAI does not truncate, so the texts are truncated here."""
        if truncate:
            max_chars = chunking.chars_for(CONTEXT_TOKENS)
            texts = [text[:max_chars] for text in texts]
        try:
            return await self._send(texts, timeout_s)
        except TextTooLongError:
            truncated = [_truncated(text) for text in texts]
            if not truncate or len(texts) > 1 or truncated == texts:
                raise  # of several texts, those that fit would be truncated too
        return await self._send(truncated, timeout_s)

    async def _send(self, texts: Sequence[str], timeout_s: float) -> list[object]:
        content = {
            "model": self.model,
            "input": list(texts),
            "dimensions": self._dimensions,
            "encoding_format": "float",
        }
        response = await self._post(self._url, content, timeout_s)
        return self._in_order(self._vectors_of(response, "data", len(texts)))

    def _in_order(self, data: list[object]) -> list[object]:
        """Return the vectors by their `index`: the response may hold them in any order."""
        rows = [row if isinstance(row, dict) else {} for row in data]
        indexes = [row.get("index", number) for number, row in enumerate(rows)]
        if {type(i) for i in indexes} - {int} or sorted(indexes) != list(range(len(rows))):
            raise TransientError(
                f"{self.name} answered with vectors whose indexes are {indexes[:5]}"
            )
        vectors: list[object] = [None] * len(rows)
        for index, row in zip(indexes, rows, strict=True):
            vectors[index] = row.get("embedding")
        return vectors

    @override
    def _error_of(self, response: Response) -> ServiceError:
        return error_of(response, self._key.redact, name=self.name, model=self.model)

    @override
    def _dimensions_error(self, seen: int) -> ConfigurationError:
        return ConfigurationError(
            f"{self.model} at {self.name} makes vectors of {seen} dimensions although the "
            f"request asked for {self._dimensions}",
            remedy=f"set OPENAI_MODEL to a model that can make {self._dimensions} dimensions "
            f"(text-embedding-3-small), or set EMBED_DIMENSIONS to {seen} and fill the table again",
        )

    @override
    def _no_vectors_error(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name} makes no usable vector of any text: {reason}",
            remedy=f"check OPENAI_URL and OPENAI_MODEL ({self.model})",
        )


def _batches(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Divide texts into batches that stay below the limits of one request."""
    start, tokens = 0, 0
    for index, text in enumerate(texts):
        needed = min(_max_tokens(text), CONTEXT_TOKENS)  # a longer text is refused anyway
        if index > start and (tokens + needed > MAX_REQUEST_TOKENS or index - start >= MAX_TEXTS):
            yield texts[start:index]
            start, tokens = index, 0
        tokens += needed
    yield texts[start:]


def _max_tokens(text: str) -> int:
    """Return a high estimate: two bytes per token; English has four, Chinese two to three."""
    return len(text.encode(errors="surrogatepass")) // 2 + 1


def _truncated(text: str) -> str:
    """Return the beginning of a text that fits in any language: a token has at least one byte."""
    return text.encode(errors="ignore")[: CONTEXT_TOKENS - 2].decode(errors="ignore")
