"""The base class of all embedder clients: it sends requests, and admits every vector.

A refusal of a page counts only if the embedder accepts a canary right after it. Otherwise a model
that returns NaN for every text, or a proxy that rejects every request, would send the whole topic
to the dead letters.
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
"""A text that every working embedder accepts."""


class BaseEmbedderClient(ABC):
    """An embedder behind a URL; a subclass knows its requests and its errors.

    Args:
        http: The process's HTTP client.
        url: The URL of the embedder.
        model: The model of the requests.
        dimensions: The size of the vectors wanted.
        api_key: Sent as `Authorization: Bearer`, if given; never part of a message.

    Attributes:
        name: Scheme, host and port.
        model: The model that makes the vectors.
        max_texts: The most texts of one `embed`.
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
            values = await self._request_vectors(texts, timeout_s=timeout_s, truncate=truncate)
        except RejectedError as error:
            if len(texts) == 1:
                await self._check_with_canary(error, timeout_s)
            raise
        vectors, first_error = self._admit_all(values)
        if first_error is not None and not any(vectors):
            await self._check_with_canary(first_error, timeout_s)
        return vectors

    @abstractmethod
    async def _request_vectors(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[object]:
        """Request vectors: one for each text, in order, parsed but not yet admitted."""

    @abstractmethod
    def _error_of(self, response: Response) -> ServiceError:
        """Return the error that a response other than 2xx reports."""

    @abstractmethod
    def _dimensions_error(self, seen: int) -> ConfigurationError:
        """Return the error of a model whose vectors have another size."""

    @abstractmethod
    def _no_vectors_error(self, reason: str) -> ConfigurationError:
        """Return the error of an embedder that makes no valid vector of any text."""

    def _admit_all(
        self, values: list[object]
    ) -> tuple[list[bytes | None], InvalidVectorError | None]:
        """Return the vectors, None for each invalid one, and the error of the first of those."""
        vectors: list[bytes | None] = []
        first_error = None
        for value in values:
            try:
                vectors.append(admit(value, self._dimensions))
            except InvalidVectorError as error:
                vectors.append(None)
                first_error = first_error or error
        return vectors, first_error

    async def _check_with_canary(
        self, cause: InvalidVectorError | RejectedError, timeout_s: float
    ) -> None:
        """Raise a `ConfigurationError` unless the embedder makes a vector of the canary."""
        try:
            values = await self._request_vectors([CANARY_TEXT], timeout_s=timeout_s, truncate=True)
        except RejectedError as error:
            raise self._no_vectors_error(error.detail) from cause
        _, invalid = self._admit_all(values)
        if isinstance(invalid, DimensionMismatchError):
            raise self._dimensions_error(invalid.seen) from cause
        if invalid is not None:
            detail = f"the vector of the canary is invalid too: {invalid}"
            raise self._no_vectors_error(detail) from cause

    async def _post(self, url: str, content: Mapping[str, object], timeout_s: float) -> object:
        """POST content as JSON.

        Returns:
            The parsed response. A NaN or Infinity in it is not JSON, but some servers write it; it
            becomes the same float.

        Raises:
            ServiceError: The error that a response other than 2xx reports.
            TransientError: There is no response, or it is not JSON.
            RejectedError: The text contains half of a surrogate pair, which UTF-8 cannot encode.
        """
        try:
            body = orjson.dumps(content)
        except TypeError as error:
            raise RejectedError(f"the text cannot be encoded as UTF-8: {error}") from error
        response = await self._http.exchange(
            "POST", url, body=body, headers=self._headers, timeout_s=timeout_s
        )
        if not response.ok:
            raise self._error_of(response)
        return self._parse(response)

    def _parse_json(self, body: bytes) -> object:
        """Parse JSON, or raise `orjson.JSONDecodeError`."""
        return orjson.loads(body)

    def _parse(self, response: Response) -> object:
        try:
            return self._parse_json(response.body)
        except orjson.JSONDecodeError:
            pass
        try:
            parsed: object = json.loads(response.body)
        except (ValueError, RecursionError) as error:
            raise self._not_json_error(response) from error
        return parsed

    def _not_json_error(self, response: Response) -> RetryableError:
        text = self._key.redact(response.text())[:80] or "nothing"
        return TransientError(
            f"{self.name} answered {response.status} without vectors: {text}",
            status=response.status,
        )

    def _vectors_of(self, content: object, field: str, count: int) -> list[object]:
        """Return the list in a field of a parsed response.

        Raises:
            TransientError: The field is not a list, or has another number of vectors.
        """
        vectors = content.get(field) if isinstance(content, dict) else None
        if not isinstance(vectors, list):
            text = self._key.redact(" ".join(str(content).split())[:300])[:80]
            raise TransientError(f"{self.name} answered without a list of {field}: {text}")
        if len(vectors) != count:
            raise TransientError(
                f"{self.name} answered with {len(vectors)} vectors for {count} texts"
            )
        return vectors
