"""The model of the fake embedders: its tokens, its vectors and its quirks."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from gibsey_embedder.fakes.ngrams import DIMENSIONS, cheap_vector, embed_text, unit

Quirk = Literal[
    "nan", "nan_literal", "infinity", "zero", "short", "few", "many", "rejected", "unnormalised"
]

TOKEN = re.compile(r"[A-Za-z0-9_]{1,6}|[^\sA-Za-z0-9_]")
"""Approximates a word piece: up to six letters, or one other character."""
WORD_WITH_CAPITAL = re.compile(r"\w*[A-Z]\w*")


class RejectedInputError(Exception):
    """A quirk rejects the whole request.

    Attributes:
        quirk: `nan` or `rejected`.
    """

    def __init__(self, quirk: Quirk) -> None:
        super().__init__(quirk)
        self.quirk = quirk


@dataclass(slots=True)
class QuirkRule:
    """A quirk for texts that contain `match` (None: all), `times` more times (None: no limit)."""

    quirk: Quirk
    match: str | None
    times: int | None


class EmbeddingModel:
    """Converts texts to vectors in JSON.

    Args:
        dimensions: Length of the vectors.
        context: Maximum number of tokens in a text.
        capitals_defect: Whether words with capitals become `[UNK]`, as in Ollama 0.13.1 to 0.24.
        cheap: Whether a hash selects a precomputed vector, for benchmarks.
    """

    def __init__(
        self,
        dimensions: int = DIMENSIONS,
        context: int = 2048,
        *,
        capitals_defect: bool = False,
        cheap: bool = False,
    ) -> None:
        self.dimensions, self.context = dimensions, context
        self.capitals_defect, self.cheap = capitals_defect, cheap
        self._lock = threading.Lock()
        self._rules: list[QuirkRule] = []

    def add_quirk(self, quirk: Quirk, match: str | None, times: int | None) -> None:
        """Add a quirk after the existing ones."""
        with self._lock:
            self._rules.append(QuirkRule(quirk, match, times))

    def clear_quirks(self) -> None:
        """Remove all quirks."""
        with self._lock:
            self._rules.clear()

    def tokens(self, text: str) -> int:
        """Return about how many tokens a text has."""
        return len(TOKEN.findall(text))

    def too_long(self, text: str) -> bool:
        """Whether a text exceeds the context."""
        return len(text) > self.context and self.tokens(text) > self.context

    def truncate(self, text: str) -> str:
        """Return the beginning of a text that fits into the context."""
        if len(text) <= self.context:
            return text
        ends = [match.end() for match in TOKEN.finditer(text)]
        return text if len(ends) <= self.context else text[: ends[self.context - 1]]

    def encode(
        self, texts: Sequence[str], *, size: int | None = None, length: float = 1.0
    ) -> list[bytes]:
        """Return one JSON array per text, in order.

        Args:
            texts: Texts that fit into the context.
            size: Number of dimensions; a shorter vector is cut and normalised again.
            length: Euclidean length of the vectors.

        Raises:
            RejectedInputError: A quirk rejects the request.
        """
        vectors = [self._vector(text, size, length) for text in texts]
        if not self._rules:
            return vectors
        return _with_quirks(vectors, [self._take_quirk(text) for text in texts])

    def _vector(self, text: str, size: int | None, length: float) -> bytes:
        if self.cheap and size is None and length == 1.0:
            return cheap_vector(text)
        numbers = embed_text(self._as_seen(text))
        wanted = self.dimensions if size is None else min(max(size, 1), self.dimensions)
        if wanted != DIMENSIONS:
            numbers = unit([numbers[index % DIMENSIONS] for index in range(wanted)])
        if length != 1.0:
            numbers = [round(number * length, 7) for number in numbers]
        return orjson.dumps(numbers)

    def _as_seen(self, text: str) -> str:
        return WORD_WITH_CAPITAL.sub("[UNK]", text) if self.capitals_defect else text

    def _take_quirk(self, text: str) -> Quirk | None:
        with self._lock:
            for rule in self._rules:
                if rule.match is None or rule.match in text:
                    if rule.times is not None:
                        rule.times -= 1
                        if not rule.times:
                            self._rules.remove(rule)
                    return rule.quirk
        return None


def _with_quirks(vectors: list[bytes], quirks: Sequence[Quirk | None]) -> list[bytes]:
    for quirk in quirks:
        if quirk in ("nan", "rejected"):
            raise RejectedInputError(quirk)
    result = [_wrong_vector(v, q) if q else v for v, q in zip(vectors, quirks, strict=True)]
    if "few" in quirks:
        result.pop()
    if "many" in quirks:
        result.append(vectors[0])
    return result


def _wrong_vector(vector: bytes, quirk: Quirk) -> bytes:
    first, _, rest = vector[1:].partition(b",")
    if quirk == "nan_literal":
        return b"[NaN," + rest
    if quirk == "infinity":
        return b"[Infinity," + rest
    if quirk == "short":
        return b"[" + rest
    if quirk == "zero":
        return b"[" + b",".join([b"0"] * (rest.count(b",") + 2)) + b"]"
    if quirk == "unnormalised":
        numbers = orjson.loads(vector)
        return orjson.dumps([number * math.e for number in numbers])
    return b"[" + first + b"," + rest
