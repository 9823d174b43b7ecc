"""What the clients of all embedders have in common: one request, every vector admitted.

A refusal is believed to be the page's fault only when the embedder takes a plain word at the
same time. Otherwise a model that answers NaN for everything, or a proxy that turns every request
down, would empty the topic into dead letters.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import orjson

from connectors.core.errors import (
    ConfigurationError,
    RejectedError,
    RetryableError,
    ServiceError,
    TransientError,
)
from connectors.embedders.admission import DimensionMismatchError, InvalidVectorError, admit
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.http.response import Response
from connectors.observability.redaction import Redactor

CANARY_TEXT = "page"
"""A text that every embedder takes."""


class BaseEmbedderClient(ABC):
    """An embedder behind a URL; subclasses say how it is asked and what its answers mean.

    Args:
        http: The process's HTTP client.
        url: The URL that requests go to.
        model: The model to ask for.
        dimensions: Size of the vectors wanted.
        api_key: Sent as `Authorization: Bearer`, if given; never in a message.

    Attributes:
        name: Scheme, host and port.
        model: The model that makes the vectors.
        max_texts: The most texts that one `embed` takes.
    """

    max_texts = 512

    def __init__(
        self, http: HttpClient, url: str, *, model: str, dimensions: int, api_key: str | None
    ) -> None:
        self.name = address_of(url)
        self.model = model
        self._http = http
        self._dimensions = dimensions
        self._key = Redactor([api_key] if api_key else [])
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, model={self.model!r})"

    async def embed(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[bytes | None]:
        """As in `EmbedderClient`."""
        try:
            values = await self._ask(texts, timeout_s=timeout_s, truncate=truncate)
        except RejectedError as refusal:
            if len(texts) == 1:
                await self._check_with_canary(refusal, timeout_s)
            raise
        vectors, doubt = self._admitted(values)
        if doubt is not None and not any(vectors):
            await self._check_with_canary(doubt, timeout_s)
        return vectors

    @abstractmethod
    async def _ask(self, texts: Sequence[str], *, timeout_s: float, truncate: bool) -> list[object]:
        """Ask for vectors: one a text, in order, parsed but not yet admitted."""

    @abstractmethod
    def _size_fault(self, seen: int) -> ConfigurationError:
        """The fault of a model whose vectors have another size."""

    @abstractmethod
    def _useless_fault(self, reason: str) -> ConfigurationError:
        """The fault of an embedder that makes no vector of any text."""

    def _admitted(
        self, values: list[object]
    ) -> tuple[list[bytes | None], InvalidVectorError | None]:
        """The vectors, None for each bad one, and what was wrong with the first of those."""
        tried = [self._tried(value) for value in values]
        doubts = [vector for vector in tried if isinstance(vector, InvalidVectorError)]
        vectors = [None if isinstance(vector, InvalidVectorError) else vector for vector in tried]
        return vectors, doubts[0] if doubts else None

    def _tried(self, values: object) -> bytes | InvalidVectorError:
        try:
            return admit(values, self._dimensions)
        except InvalidVectorError as error:
            return error

    async def _check_with_canary(
        self, doubt: InvalidVectorError | RejectedError, timeout_s: float
    ) -> None:
        """Return if the embedder makes a vector of a plain word; else it is the set-up's fault."""
        try:
            values = await self._ask([CANARY_TEXT], timeout_s=timeout_s, truncate=True)
        except RejectedError as refusal:
            raise self._useless_fault(refusal.detail) from doubt
        _, wrong = self._admitted(values)
        if isinstance(wrong, DimensionMismatchError):
            raise self._size_fault(wrong.seen) from doubt
        if wrong is not None:
            raise self._useless_fault(f"the vector of a plain word is bad too: {wrong}") from doubt

    async def _post(self, url: str, question: Mapping[str, object], timeout_s: float) -> object:
        """POST a question as JSON.

        Returns:
            The parsed answer; a NaN or Infinity in it, which is no JSON but is what some servers
            write, comes as the float that it is.

        Raises:
            ServiceError: What the answer means where it is none of 2xx.
            TransientError: No answer, or one that is not JSON.
            RejectedError: The text holds half a surrogate pair, for which there is no UTF-8.
        """
        try:
            body = orjson.dumps(question)
        except TypeError as error:
            raise RejectedError(f"its text cannot be written as UTF-8: {error}") from error
        answer = await self._http.exchange(
            "POST", url, body=body, headers=self._headers, timeout_s=timeout_s
        )
        if not answer.ok:
            raise self._fault(answer)
        return self._parsed(answer)

    @abstractmethod
    def _fault(self, answer: Response) -> ServiceError:
        """What an answer that is none of 2xx means."""

    def _loads(self, body: bytes) -> object:
        """Parse JSON, or raise `orjson.JSONDecodeError`."""
        return orjson.loads(body)

    def _parsed(self, answer: Response) -> object:
        try:
            return self._loads(answer.body)
        except orjson.JSONDecodeError:
            pass
        try:
            parsed: object = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise self._nonsense(answer) from error
        return parsed

    def _nonsense(self, answer: Response) -> RetryableError:
        came = self._key.redact(answer.text())[:80] or "nothing"
        return TransientError(
            f"{self.name} answered {answer.status} with something else than vectors: {came}",
            status=answer.status,
        )

    def _counted(self, answer: object, field: str, texts: int) -> list[object]:
        """The list of vectors, `field` of an answer.

        Raises:
            TransientError: It is no list, or has too few or too many.
        """
        values = answer.get(field) if isinstance(answer, dict) else None
        if not isinstance(values, list):
            came = self._key.redact(" ".join(str(answer).split())[:300])[:80]
            raise TransientError(f"{self.name} answered without a list of {field}: {came}")
        if len(values) != texts:
            raise TransientError(
                f"{self.name} answered with {len(values)} vectors for {texts} texts"
            )
        return values
