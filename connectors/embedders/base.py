"""What an embedder is to the stream: texts in, admitted vectors out.

A vector is *admitted* when it is what may be stored: the right count of finite
numbers, of unit length. `admit` holds that border for every pool.

    RejectedError
    └── TextTooLongError            the text is longer than the model's context
    ValueError
    └── InvalidVectorError          what came is no vector
        └── DimensionMismatchError
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol

import orjson
from cachetools import LRUCache

from connectors.core.errors import RejectedError
from connectors.embedders.vector_parser import RawVector
from connectors.observability.metrics import Metrics

LongPages = Literal["mean", "truncate", "refuse"]

UNIT_TOLERANCE = 9e-7
"""How far a length may be from 1 to be passed on as it is: promised is 1e-6, of which rounding
to the table's float32 may take 6e-8. Ollama's own vectors are off by up to 5e-7."""

NUMBER_BYTES = 12.5
"""Text of one number of a vector, with its comma: float32's shortest."""
MOST_NUMBER_BYTES = 25
"""The same, of any number that orjson writes."""
RESERVED_BYTES = 32 * 1024 * 1024
"""What a cache takes at the start, at most."""

_NUMBERS = {float, int}


class TextTooLongError(RejectedError):
    """A text is longer than the model's context, or than what the server takes in one request."""


class InvalidVectorError(ValueError):
    """What came is no vector of unit length, nor can it be made one.

    Args:
        reason: What is wrong with it, in words.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DimensionMismatchError(InvalidVectorError):
    """It has another size than the table's vectors.

    Args:
        seen: Its size.
        wanted: The size that `EMBED_DIMENSIONS` asks for.
    """

    def __init__(self, seen: int, wanted: int) -> None:
        super().__init__(f"it has {seen} dimensions instead of {wanted}")
        self.seen = seen


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an embedder tells about itself when it is asked what it is like.

    Attributes:
        dimensions: Size of its vectors, as seen in one.
        context_tokens: The model's context length in tokens, or None where it does not tell.
        capitals_defect: Whether all words with capitals look the same to it (Ollama 0.13.1 to
            0.24 with an uncased model), so that texts must be lower-cased before they are sent.
    """

    dimensions: int
    context_tokens: int | None = None
    capitals_defect: bool = False


class EmbedderClient(Protocol):
    """One embedder: a model behind a URL. Used on the I/O loop only."""

    @property
    def name(self) -> str:
        """Its URL as people are shown it: scheme, host and port, without secrets."""

    @property
    def model(self) -> str:
        """The model that makes the vectors."""

    @property
    def max_texts(self) -> int:
        """The most texts that one `embed` takes."""

    async def embed(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[bytes | None]:
        """Embed texts in one request, or in as few as the server allows.

        Args:
            texts: Prepared texts, none of them blank.
            timeout_s: Seconds for the whole call.
            truncate: Whether to cut what is longer than the model's context.

        Returns:
            One vector a text, in order, as JSON text `[…]`; None for a text whose vector was
            bad while others' were good.

        Raises:
            TransientError: The embedder is away, busy, or answered nonsense.
            ConfigurationError: It will not work before somebody changes something.
            TextTooLongError: One of the texts, not known which, is too long.
            RejectedError: One of the texts, not known which, is refused for another reason.
        """

    async def check(self) -> ModelInfo:
        """Ask the server whether it can do what `embed` will want, and what its model is like.

        Raises:
            TransientError: As `embed`.
            ConfigurationError: As `embed`; the model is missing, or is none for embeddings.
        """


def admit(values: object, dimensions: int) -> bytes:
    """Check a vector and bring it to unit length.

    Numbers of unit length are passed on as they are: float32's shortest text stays what it is
    (9 KB for 768 of them, instead of 16).

    Args:
        values: What the embedder sent, parsed; should be a list of `dimensions` numbers, or a
            `RawVector`, of which the text is passed on if it is of unit length and not padded.
        dimensions: The size wanted.

    Returns:
        The vector as JSON text, `[…]`.

    Raises:
        DimensionMismatchError: A list of another size.
        InvalidVectorError: Not a list of numbers, one of them not finite, or all of them zero.
    """
    text = None
    if isinstance(values, RawVector):
        text = values.text
        values = values.values
    if not isinstance(values, list):
        raise InvalidVectorError(f"it is no list but {_kind(values)}")
    if len(values) != dimensions:
        raise DimensionMismatchError(len(values), dimensions)
    try:
        length = math.hypot(*values)
    except OverflowError:  # an integer beyond the largest float
        length = math.inf
    except TypeError:
        length = math.nan
    if abs(length - 1.0) <= UNIT_TOLERANCE:
        if text is None or len(text) > MOST_NUMBER_BYTES * dimensions:
            text = _compact(orjson.dumps(values))
        if b"t" not in text and b"f" not in text:  # true and false count as 1 and 0
            return text
    if not set(map(type, values)) <= _NUMBERS:
        odd = next(v for v in values if type(v) not in _NUMBERS)
        raise InvalidVectorError(f"it holds {_kind(odd)} where a number should be")
    return _compact(orjson.dumps(_unit(values, length)))


def _compact(text: bytes) -> bytes:
    """The same in a block of its own size.

    orjson gives back what it does not use of its buffer, a power of two, as a hole behind the
    text, which is too small for the next one: 2,048 vectors of 9.5 KB took 31 MB.
    """
    return bytes(memoryview(text))


def _unit(values: list[float], length: float) -> list[float]:
    if math.isnan(length):
        raise InvalidVectorError("it holds NaN")
    if math.isinf(length):
        raise InvalidVectorError("it holds an infinite number, or is infinitely long")
    if length == 0.0:
        raise InvalidVectorError("it is zero throughout")
    scaled = [value / length for value in values]
    if not abs(math.hypot(*scaled) - 1.0) <= UNIT_TOLERANCE:  # numbers near the smallest there are
        raise InvalidVectorError(f"its length, {length}, is too small to be anything but rounding")
    return scaled


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "true or false", str: "a text", dict: "an object"}
    return names.get(type(value), f"{type(value).__name__}")


@dataclass(frozen=True, slots=True)
class TextRules:
    """How a page's body becomes the text that is embedded.

    Attributes:
        model: The model's name; part of the fingerprint, since another model means other vectors.
        prefix: Put before each text (nomic-embed-text wants `search_document: `).
        lowercase: Whether texts are lower-cased.
        long_pages: What happens to pages that are longer than the model's context.
    """

    model: str
    prefix: str = ""
    lowercase: bool = False
    long_pages: LongPages = "mean"

    def prepare(self, body: str) -> str:
        """The text to embed for a body, or for a piece of one."""
        text = self.prefix + body
        return text.lower() if self.lowercase else text

    def lowercased(self) -> TextRules:
        """The same rules with lower-casing."""
        return replace(self, lowercase=True)

    def fingerprint(self, body: str) -> bytes:
        """16 bytes that differ when body or rules do: the same ones mean the same vector."""
        digest = _begun(self.model, self.prefix, str(self.lowercase), self.long_pages).copy()
        _digest(digest, body)
        return digest.digest()


@lru_cache(maxsize=16)
def _begun(*parts: str) -> hashlib.blake2b:
    """A digest of all of it that is the same for each text."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        _digest(digest, part)
    return digest


def _digest(digest: hashlib.blake2b, part: str) -> None:
    data = part.encode(errors="surrogatepass")
    digest.update(len(data).to_bytes(8, "big"))  # so that no two parts run into another
    digest.update(data)


class VectorCache:
    """The latest vectors by text and rules, least recently used dropped first.

    Used on the I/O loop only. Keys are digests, so that memory depends on vectors alone: 768
    numbers are 9.5 KB as Ollama writes them, 16 KB where their length had to be made 1.

    Args:
        pages: How many vectors it holds; 0 turns it off.
        metrics: Where hits and misses are counted.
        reserved_bytes: The memory of so long a text is taken for each vector at once, up to
            `RESERVED_BYTES`, by entries that no text has and that go first, so that a process does
            not go on growing until it has made so many vectors.
    """

    def __init__(self, pages: int, metrics: Metrics, reserved_bytes: int = 0) -> None:
        self._vectors: LRUCache[bytes, bytes] | None = LRUCache(pages) if pages > 0 else None
        if self._vectors is not None and reserved_bytes:
            for number in range(min(pages, RESERVED_BYTES // reserved_bytes)):
                self._vectors[b"unused %d" % number] = b"x" * reserved_bytes
        self._hits = metrics.cache.labels("hit")
        self._misses = metrics.cache.labels("miss")

    def get(self, rules: TextRules, body: str) -> bytes | None:
        """The vector of a body, if it is still there; None if not, or if the cache is off."""
        if self._vectors is None:
            return None
        vector = self._vectors.get(rules.fingerprint(body))
        (self._misses if vector is None else self._hits).inc()
        return vector

    def put(self, rules: TextRules, body: str, vector: bytes) -> None:
        """Keep an admitted vector."""
        if self._vectors is not None:
            self._vectors[rules.fingerprint(body)] = vector

    def clear(self) -> None:
        """Forget all of them."""
        if self._vectors is not None:
            self._vectors.clear()
