"""Pieces of pages that are longer than the model's context, and the mean of their vectors."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence

import orjson

from connectors.embedders.admission import InvalidVectorError, admit

CHARS_PER_TOKEN = 3
"""A careful guess: English has about 4 characters a wordpiece, code and other languages fewer.
Where it is too many, the server says so and the piece is halved."""
RESERVED_TOKENS = 16
"""Left for the model's own marks at both ends and for the prefix."""

_FULL = 0.8
"""How much of its limit a piece is to fill, so that there is room to look for a good bound."""
_LEEWAY = 0.25
"""How far, as a share of the ideal length, a bound may be from where it would be ideal."""

_BOUNDS = (
    re.compile(r"\n[^\S\n]*\n\s*"),  # paragraphs
    # sentences and lines; the escapes are closing quotation marks and the CJK full stops
    re.compile(r"(?:[.!?\u2026][\"'\u201d\u2019)\]]*\s|[\u3002\uff01\uff1f]|\n)\s*"),
    re.compile(r"\s+"),  # words
)
_ROUNDING = 1e-6
"""A mean shorter than this has no direction but that of rounding."""
_JOINERS = frozenset("\u200d\ufe0e\ufe0f\u20e3")


def chars_for(context_tokens: int) -> int:
    """How many characters surely fit a context, as far as English prose goes.

    Args:
        context_tokens: The model's context in tokens.

    Returns:
        Characters, at least 1; 6,096 for nomic-embed-text's 2,048 tokens.
    """
    return max(CHARS_PER_TOKEN * (context_tokens - RESERVED_TOKENS), 1)


def split_text(text: str, max_chars: int) -> list[str]:
    """Cut a text at its paragraphs, else sentences, else words, else anywhere.

    The pieces are about equally long: none is shorter than a third of `max_chars`, up to
    rounding, unless the whole text is. Joined they are the text again, but for pieces that
    would be blank, which are left out.

    Args:
        text: The text.
        max_chars: The most characters of a piece, 1 or more.

    Returns:
        The pieces, in order; the text itself where it fits.
    """
    if max_chars < 1:
        raise ValueError("a piece needs at least one character")
    if len(text) <= max_chars:
        return [text]
    return [piece for piece in _pieces(text, max_chars) if not piece.isspace()]


def _pieces(text: str, max_chars: int) -> Iterator[str]:
    start = 0
    while len(text) - start > max_chars:
        cut = _cut(text, start, max_chars)
        yield text[start:cut]
        start = cut
    yield text[start:]


def _cut(text: str, start: int, max_chars: int) -> int:
    """Where the piece that begins at `start` ends, in a text of which more than that is left."""
    left = len(text) - start
    count = max(math.ceil(left / max(max_chars * _FULL, 1.0)), 2)
    ideal = left / count
    lowest = start + max(math.ceil(ideal * (1 - _LEEWAY)), 1)
    highest = start + max(min(math.floor(ideal * (1 + _LEEWAY)), max_chars), 1)
    middle = start + ideal
    for bound in _BOUNDS:
        ends = [m.end() for m in bound.finditer(text, lowest - 1, highest) if m.end() >= lowest]
        if ends:
            return min(ends, key=lambda end: abs(end - middle))
    whole = [place for place in range(lowest, highest + 1) if not _inside_character(text, place)]
    return min(whole or [max(round(middle), lowest)], key=lambda place: abs(place - middle))


def _inside_character(text: str, place: int) -> bool:
    """Whether a cut there would be inside what a reader sees as one character."""
    follows = text[place] in _JOINERS or unicodedata.category(text[place]).startswith("M")
    return follows or text[place - 1] == "\u200d"


def mean_vector(vectors: Sequence[bytes], weights: Sequence[int]) -> bytes:
    """The weighted mean of vectors, brought back to unit length.

    Args:
        vectors: Admitted vectors as JSON text, all of one size; at least one.
        weights: How much each counts: its text's characters.

    Returns:
        An admitted vector as JSON text.

    Raises:
        InvalidVectorError: They cancel each other out.
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
