"""The chunks of a page that is longer than the model's context, and the mean of their vectors."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence

import orjson

from connectors.embedders.admission import InvalidVectorError, admit

CHARS_PER_TOKEN = 3
"""A careful estimate: English has about 4 characters per token, code and other languages have
fewer. If the estimate is too high, the server refuses the chunk and it is split again."""
RESERVED_TOKENS = 16
"""Reserved for the model's own tokens at both ends, and for the prefix."""

_FILL = 0.8
"""How much of the limit a chunk should fill; the rest allows a cut at a natural boundary."""
_LEEWAY = 0.25
"""How far a cut may be from its ideal position, as a share of the ideal length."""

_BOUNDARIES = (
    re.compile(r"\n[^\S\n]*\n\s*"),  # paragraphs
    # sentences and lines; the escapes are closing quotation marks and the CJK full stops
    re.compile(r"(?:[.!?\u2026][\"'\u201d\u2019)\]]*\s|[\u3002\uff01\uff1f]|\n)\s*"),
    re.compile(r"\s+"),  # words
)
_ROUNDING = 1e-6
"""The direction of a shorter mean is only a rounding error."""
_JOINERS = frozenset("\u200d\ufe0e\ufe0f\u20e3")


def chars_for(context_tokens: int) -> int:
    """Return how many characters of English prose surely fit a context.

    Args:
        context_tokens: The model's context in tokens.

    Returns:
        Characters, at least 1; 6,096 for nomic-embed-text's 2,048 tokens.
    """
    return max(CHARS_PER_TOKEN * (context_tokens - RESERVED_TOKENS), 1)


def split_text(text: str, max_chars: int) -> list[str]:
    """Cut a text at paragraphs, else at sentences, else at words, else anywhere.

    The chunks have about the same length: none is shorter than a third of `max_chars`, up to
    rounding, unless the whole text is. Joined they are the text, except for blank chunks, which
    are dropped.

    Args:
        text: The text.
        max_chars: The most characters of a chunk, 1 or more.

    Returns:
        The chunks, in order; the text itself if it fits.
    """
    if max_chars < 1:
        raise ValueError("a chunk needs at least one character")
    if len(text) <= max_chars:
        return [text]
    return [chunk for chunk in _chunks(text, max_chars) if not chunk.isspace()]


def _chunks(text: str, max_chars: int) -> Iterator[str]:
    start = 0
    while len(text) - start > max_chars:
        cut = _cut(text, start, max_chars)
        yield text[start:cut]
        start = cut
    yield text[start:]


def _cut(text: str, start: int, max_chars: int) -> int:
    """Return the end of the chunk that begins at `start`; the rest must be longer than a chunk."""
    left = len(text) - start
    count = max(math.ceil(left / max(max_chars * _FILL, 1.0)), 2)
    length = left / count
    lowest = start + max(math.ceil(length * (1 - _LEEWAY)), 1)
    highest = start + max(min(math.floor(length * (1 + _LEEWAY)), max_chars), 1)
    ideal = start + length
    for boundary in _BOUNDARIES:
        ends = [m.end() for m in boundary.finditer(text, lowest - 1, highest) if m.end() >= lowest]
        if ends:
            return min(ends, key=lambda end: abs(end - ideal))
    ends = [end for end in range(lowest, highest + 1) if not _is_inside_character(text, end)]
    return min(ends or [max(round(ideal), lowest)], key=lambda end: abs(end - ideal))


def _is_inside_character(text: str, index: int) -> bool:
    """Return whether a cut at `index` would split what a reader sees as one character."""
    follows = text[index] in _JOINERS or unicodedata.category(text[index]).startswith("M")
    return follows or text[index - 1] == "\u200d"


def mean_vector(vectors: Sequence[bytes], weights: Sequence[int]) -> bytes:
    """Return the weighted mean of vectors, at unit length.

    Args:
        vectors: Admitted vectors as JSON text, at least one, all of one size.
        weights: The weight of each vector: the characters of its text.

    Returns:
        An admitted vector as JSON text.

    Raises:
        InvalidVectorError: The vectors cancel each other out.
    """
    rows = [orjson.loads(vector) for vector in vectors]
    total = sum(weights)
    values = [
        math.fsum(weight * value for weight, value in zip(weights, column, strict=True)) / total
        for column in zip(*rows, strict=True)
    ]
    if math.hypot(*values) < _ROUNDING:
        raise InvalidVectorError("the vectors cancel each other out")
    return admit(values, len(values))
