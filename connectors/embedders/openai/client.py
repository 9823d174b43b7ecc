"""OpenAI's embeddings interface, and that of servers compatible with it.

Source: OpenAI's API reference (`POST /v1/embeddings`, error codes, rate limits).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence

from yarl import URL

from connectors.core.errors import ConfigurationError, RejectedError, ServiceError, TransientError
from connectors.embedders import chunking
from connectors.embedders.base import ModelInfo, TextTooLongError
from connectors.embedders.base_client import CANARY_TEXT, BaseEmbedderClient
from connectors.embedders.openai.errors import meaning
from connectors.http.client import HttpClient
from connectors.http.response import Response

DEFAULT_URL = "https://api.openai.com"
MAX_TEXTS = 2048
CONTEXT_TOKENS = 8192
"""Of each text; the same for all of OpenAI's embedding models."""
MAX_REQUEST_TOKENS = 300_000
"""Of all texts of one request."""
CHECK_TIMEOUT_S = 30.0
CONCURRENCY = 4
"""Requests at the same time: its server works on many, 32 pages take half a second, and 200 pages
a second are wanted."""

_VERSION = re.compile(r"/v\d+$")


def endpoint_of(url: str) -> str:
    """The URL that embeddings are asked at, from any of the URLs people give.

    Args:
        url: `https://api.openai.com`, or with `/v1`, or the whole of it, or a proxy's prefix.
    """
    parsed = URL(url)
    path = parsed.raw_path.rstrip("/")
    if not path.endswith("/embeddings"):
        path += "/embeddings" if _VERSION.search(path) else "/v1/embeddings"
    return str(parsed.with_path(path, encoded=True))


class OpenAIClient(BaseEmbedderClient):
    """OpenAI, or a server compatible with it.

    Args:
        http: The process's HTTP client.
        url: `OPENAI_URL`.
        api_key: `OPENAI_API_KEY`.
        model: `OPENAI_MODEL`.
        dimensions: `EMBED_DIMENSIONS`; asked for in each request.
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
        except RejectedError as refusal:
            raise self._useless_fault(refusal.detail) from refusal
        return ModelInfo(dimensions=self._dimensions, context_tokens=CONTEXT_TOKENS)

    async def _ask(self, texts: Sequence[str], *, timeout_s: float, truncate: bool) -> list[object]:
        try:
            return await asyncio.wait_for(self._ask_in_turn(texts, timeout_s, truncate), timeout_s)
        except asyncio.TimeoutError as error:
            raise TransientError(f"{self.name} did not answer within {timeout_s:.0f} s") from error

    async def _ask_in_turn(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object]:
        vectors: list[object] = []
        for request in _requests(texts):
            vectors += await self._ask_once(request, timeout_s, truncate)
        return vectors

    async def _ask_once(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object]:
        """One request; this interface does not truncate, so the texts are cut here."""
        if truncate:
            most = chunking.chars_for(CONTEXT_TOKENS)
            texts = [text[:most] for text in texts]
        try:
            return await self._ask_as_they_are(texts, timeout_s)
        except TextTooLongError:
            shorter = [_surely_short(text) for text in texts]
            if not truncate or len(texts) > 1 or shorter == texts:
                raise  # of several, those that fit would be cut as well
        return await self._ask_as_they_are(shorter, timeout_s)

    async def _ask_as_they_are(self, texts: Sequence[str], timeout_s: float) -> list[object]:
        question = {
            "model": self.model,
            "input": list(texts),
            "dimensions": self._dimensions,
            "encoding_format": "float",
        }
        answer = await self._post(self._url, question, timeout_s)
        return self._in_order(self._counted(answer, "data", len(texts)))

    def _in_order(self, data: list[object]) -> list[object]:
        """The vectors by their `index`: they may come in any order."""
        rows = [row if isinstance(row, dict) else {} for row in data]
        places = [row.get("index", place) for place, row in enumerate(rows)]
        if {type(place) for place in places} - {int} or sorted(places) != list(range(len(rows))):
            raise TransientError(
                f"{self.name} answered with vectors whose indexes are {places[:5]}"
            )
        vectors: list[object] = [None] * len(rows)
        for place, row in zip(places, rows, strict=True):
            vectors[place] = row.get("embedding")
        return vectors

    def _fault(self, answer: Response) -> ServiceError:
        return meaning(answer, self._key.redact, name=self.name, model=self.model)

    def _size_fault(self, seen: int) -> ConfigurationError:
        return ConfigurationError(
            f"{self.model} at {self.name} makes vectors of {seen} dimensions although it was "
            f"asked for {self._dimensions}",
            remedy=f"set OPENAI_MODEL to a model that can make {self._dimensions} dimensions "
            "(text-embedding-3-small), or EMBED_DIMENSIONS to its own and fill the table anew",
        )

    def _useless_fault(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name} makes no usable vector of any text: {reason}",
            remedy=f"check OPENAI_URL and OPENAI_MODEL ({self.model})",
        )


def _requests(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Texts in groups that stay below the limits of one request."""
    start, tokens = 0, 0
    for place, text in enumerate(texts):
        needed = min(_most_tokens(text), CONTEXT_TOKENS)  # of longer ones the request is refused
        if place > start and (tokens + needed > MAX_REQUEST_TOKENS or place - start >= MAX_TEXTS):
            yield texts[start:place]
            start, tokens = place, 0
        tokens += needed
    yield texts[start:]


def _most_tokens(text: str) -> int:
    """Rather too many: two bytes a token, while English has four and Chinese two to three."""
    return len(text.encode(errors="surrogatepass")) // 2 + 1


def _surely_short(text: str) -> str:
    """The beginning of a text that fits whatever its language: a token has a byte at least."""
    return text.encode(errors="ignore")[: CONTEXT_TOKENS - 2].decode(errors="ignore")
