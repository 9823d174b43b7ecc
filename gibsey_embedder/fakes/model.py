"""The model inside the embedders' stand-ins: its tokens, its vectors, and how it goes wrong."""

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
    "nan", "nan_literal", "infinity", "zero", "short", "few", "many", "refused", "unnormalised"
]

TOKEN = re.compile(r"[A-Za-z0-9_]{1,6}|[^\sA-Za-z0-9_]")
"""Near enough to a word-piece: up to six letters, or one other character."""
WORD_WITH_CAPITAL = re.compile(r"\w*[A-Z]\w*")


class RefusedError(Exception):
    """A quirk makes the whole request fail.

    Attributes:
        quirk: `nan` or `refused`.
    """

    def __init__(self, quirk: Quirk) -> None:
        super().__init__(quirk)
        self.quirk = quirk


@dataclass(slots=True)
class Spoil:
    """A quirk, for texts that hold `match` (None: all), `times` more times (None: for ever)."""

    quirk: Quirk
    match: str | None
    times: int | None


class EmbeddingModel:
    """Turns texts into vectors as ready JSON.

    Args:
        dimensions: Numbers of a vector.
        context: TokenSource that a text may have.
        capitals_defect: Whether words with capitals become `[UNK]`, as in Ollama 0.13.1 to 0.24.
        cheap: Whether vectors are drawn by hash, for benchmarks.
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
        self._spoils: list[Spoil] = []

    def spoil(self, quirk: Quirk, match: str | None, times: int | None) -> None:
        """Orders a quirk."""
        with self._lock:
            self._spoils.append(Spoil(quirk, match, times))

    def heal(self) -> None:
        """Ends all quirks."""
        with self._lock:
            self._spoils.clear()

    def tokens(self, text: str) -> int:
        """About how many tokens a text has."""
        return len(TOKEN.findall(text))

    def too_long(self, text: str) -> bool:
        """Whether a text is longer than the context."""
        return len(text) > self.context and self.tokens(text) > self.context

    def truncate(self, text: str) -> str:
        """A text's part that fits into the context."""
        if len(text) <= self.context:
            return text
        ends = [match.end() for match in TOKEN.finditer(text)]
        return text if len(ends) <= self.context else text[: ends[self.context - 1]]

    def encode(
        self, texts: Sequence[str], *, size: int | None = None, length: float = 1.0
    ) -> list[bytes]:
        """One JSON array a text, in order.

        Args:
            texts: Texts that fit into the context.
            size: Fewer dimensions: the vector is cut and brought to unit length again.
            length: Length of the vectors.

        Raises:
            RefusedError: A quirk says so.
        """
        vectors = [self._vector(text, size, length) for text in texts]
        if not self._spoils:
            return vectors
        return _spoiled(vectors, [self._spoil_of(text) for text in texts])

    def _vector(self, text: str, size: int | None, length: float) -> bytes:
        if self.cheap and size is None and length == 1.0:
            return cheap_vector(text)
        numbers = embed_text(self._as_seen(text))
        wanted = self.dimensions if size is None else min(max(size, 1), self.dimensions)
        if wanted != DIMENSIONS:
            numbers = unit([numbers[place % DIMENSIONS] for place in range(wanted)])
        if length != 1.0:
            numbers = [round(number * length, 7) for number in numbers]
        return orjson.dumps(numbers)

    def _as_seen(self, text: str) -> str:
        return WORD_WITH_CAPITAL.sub("[UNK]", text) if self.capitals_defect else text

    def _spoil_of(self, text: str) -> Quirk | None:
        with self._lock:
            for spoil in self._spoils:
                if spoil.match is None or spoil.match in text:
                    if spoil.times is not None:
                        spoil.times -= 1
                        if not spoil.times:
                            self._spoils.remove(spoil)
                    return spoil.quirk
        return None


def _spoiled(vectors: list[bytes], quirks: Sequence[Quirk | None]) -> list[bytes]:
    for quirk in quirks:
        if quirk in ("nan", "refused"):
            raise RefusedError(quirk)
    spoiled = [_bad(v, q) if q else v for v, q in zip(vectors, quirks, strict=True)]
    if "few" in quirks:
        spoiled.pop()
    if "many" in quirks:
        spoiled.append(vectors[0])
    return spoiled


def _bad(vector: bytes, quirk: Quirk) -> bytes:
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
