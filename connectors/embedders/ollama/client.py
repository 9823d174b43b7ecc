"""Ollama's embedding interface: `/api/embed` for batches, the legacy one where that is missing.

Sources: Ollama's API documentation, and the answers of 0.13.0 and 0.24.0.
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
    meaning,
    not_for_embedding,
    words_of,
)
from connectors.http.client import HttpClient
from connectors.http.response import Response
from connectors.observability import logs

CHECK_TIMEOUT_S = 60.0
"""The first question may have to wait until the model is loaded."""
LEGACY_S = 600.0
"""How long a server without `/api/embed` is not asked for it again."""
CONTEXT_TOKENS = 2048
"""The context assumed where the server does not tell: nomic-embed-text's in Ollama."""

CAPITALS = ("Paris", "London")
"""Two words that differ, both with a capital."""

_ENDINGS = ("/api/embeddings", "/api/embed", "/api", "/v1/embeddings", "/v1")
_SAME = 1e-3
"""Vectors of unit length closer than this are the same; different words are 0.1 apart or more."""
_NUM_CTX = re.compile(r"^num_ctx\s+(\d+)\s*$", re.MULTILINE)


def root_of(url: str) -> str:
    """The root that Ollama's paths begin at, from any of the URLs people give.

    Args:
        url: `http://host:11434`, or with `/api/embeddings`, `/api/embed`, a proxy's prefix, ….
    """
    parsed = URL(url)
    path = parsed.raw_path.rstrip("/")
    for ending in _ENDINGS:
        if path.endswith(ending):
            path = path.removesuffix(ending)
            break
    return str(parsed.with_path(path or "/", encoded=True)).rstrip("/")


class OllamaClient(BaseEmbedderClient):
    """One Ollama server.

    Args:
        http: The process's HTTP client.
        url: `EMBED_URL`, or one of them.
        model: `EMBED_MODEL`.
        dimensions: `EMBED_DIMENSIONS`.
        api_key: `EMBED_API_KEY`, for a proxy.
        clock: Seconds that only grow, for tests.
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
        if api_key and (user := URL(root)).user:  # one Authorization header, the key's
            root = str(user.with_user(None)).rstrip("/")
        super().__init__(http, root, model=model, dimensions=dimensions, api_key=api_key)
        self._root = root
        self._clock = clock
        self._legacy_until = -math.inf
        self._said_legacy = False
        self._context_tokens = CONTEXT_TOKENS

    async def _ask(self, texts: Sequence[str], *, timeout_s: float, truncate: bool) -> list[object]:
        if self._clock() >= self._legacy_until:
            try:
                return await self._ask_batch(texts, timeout_s, truncate)
            except MissingPathError:
                pass  # where the legacy path is missing too, its fault is the one to report
        try:
            vectors = await asyncio.wait_for(self._ask_each(texts, timeout_s, truncate), timeout_s)
        except asyncio.TimeoutError as error:
            raise TransientError(f"{self.name} did not answer within {timeout_s:.0f} s") from error
        except MissingPathError:
            self._legacy_until = -math.inf
            raise
        if self._clock() < self._legacy_until:
            return vectors
        return await self._batched_after_all(texts, timeout_s, truncate) or vectors

    async def _ask_batch(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object]:
        question = {"model": self.model, "input": list(texts), "truncate": truncate}
        answer = await self._post(f"{self._root}/api/embed", question, timeout_s)
        return self._counted(answer, "embeddings", len(texts))

    async def _ask_each(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object]:
        """One text a call; the legacy path knows no `truncate` and may cut without a word."""
        if not truncate:
            most = chunking.chars_for(self._context_tokens)
            if any(len(text) > most for text in texts):
                raise TextTooLongError(f"{self.name} may cut texts of more than {most} characters")
        url = f"{self._root}/api/embeddings"
        answers = [
            await self._post(url, {"model": self.model, "prompt": text}, timeout_s)
            for text in texts
        ]
        return [a.get("embedding") if isinstance(a, dict) else None for a in answers]

    async def _batched_after_all(
        self, texts: Sequence[str], timeout_s: float, truncate: bool
    ) -> list[object] | None:
        """The vectors of a second try at a batch; None if there is no such path, as it seems.

        Everything may have been missing for a moment, and have come back between two requests.
        """
        try:
            return await self._ask_batch(texts, timeout_s, truncate)
        except MissingPathError:
            self._remember_legacy()
        except ServiceError:
            pass
        return None

    def _remember_legacy(self) -> None:
        self._legacy_until = self._clock() + LEGACY_S
        if not self._said_legacy:
            self._said_legacy = True
            logs.get("embedder").warning(
                "this server has no /api/embed: one text a request", endpoint=self.name
            )

    async def check(self) -> ModelInfo:
        """As in `EmbedderClient`."""
        shown = await self._show()
        can = shown.get("capabilities")
        if isinstance(can, list) and can and "embedding" not in can:
            raise not_for_embedding(self.name, self.model)
        context_tokens = _context_tokens(shown)
        self._context_tokens = context_tokens or CONTEXT_TOKENS
        try:
            vectors = await self.embed(CAPITALS, timeout_s=CHECK_TIMEOUT_S, truncate=True)
        except RejectedError as refusal:
            raise self._useless_fault(refusal.detail) from refusal
        return ModelInfo(
            dimensions=self._dimensions,
            context_tokens=context_tokens,
            capitals_defect=_are_the_same(vectors),
        )

    async def _show(self) -> Mapping[str, object]:
        """What the server tells about the model; nothing where a proxy hides that path."""
        answer = await self._http.request(
            "POST",
            f"{self._root}/api/show",
            body=orjson.dumps({"model": self.model}),
            headers=self._headers,
            timeout_s=CHECK_TIMEOUT_S,
        )
        if answer.ok:
            shown = self._parsed(answer)
            return shown if isinstance(shown, dict) else {}
        fault = self._fault(answer)
        if isinstance(fault, TransientError):
            raise fault
        return {}  # what else is wrong, the texts that are asked next will show

    @override
    def _loads(self, body: bytes) -> object:
        return vector_parser.parse(body)

    def _fault(self, answer: Response) -> ServiceError:
        words = self._key.redact(words_of(answer.body))
        return meaning(answer, words, name=self.name, model=self.model)

    def _size_fault(self, seen: int) -> ConfigurationError:
        return ConfigurationError(
            f"the model {self.model} at {self.name} makes vectors of {seen} dimensions, "
            f"wanted are {self._dimensions}",
            remedy=f"set EMBED_MODEL to a model of {self._dimensions} dimensions, or "
            f"EMBED_DIMENSIONS to {seen} and fill the table anew",
        )

    def _useless_fault(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.name} makes no usable vector of any text: {reason}",
            remedy=f"restart the embedder, and check EMBED_URL and EMBED_MODEL ({self.model})",
        )


def _context_tokens(shown: Mapping[str, object]) -> int | None:
    """The smaller of what the model was made for and what its `num_ctx` allows."""
    found = [int(n) for n in _NUM_CTX.findall(str(shown.get("parameters", "")))]
    info = shown.get("model_info")
    for key, value in info.items() if isinstance(info, dict) else ():
        if str(key).endswith(".context_length") and type(value) is int:
            found.append(value)
    return min((n for n in found if n > 0), default=None)


def _are_the_same(vectors: Sequence[bytes | None]) -> bool:
    first, second = (orjson.loads(vector or b"[]") for vector in vectors)
    return len(first) == len(second) > 0 and math.dist(first, second) < _SAME
