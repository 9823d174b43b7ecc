"""The check that a vector may be stored: it has the right size and unit length.

    ValueError
    └── InvalidVectorError              the result cannot be made a vector of unit length
        └── DimensionMismatchError      it has another size than EMBED_DIMENSIONS

The embedder clients map these to the errors of `connectors.core.errors`.
"""

from __future__ import annotations

import math

import orjson

from connectors.embedders.vector_parser import RawVector

UNIT_TOLERANCE = 9e-7
"""How far a length may differ from 1. The contract allows 1e-6, of which rounding to the table's
float32 may take 6e-8. The lengths of Ollama's own vectors differ by up to 5e-7."""

MAX_NUMBER_BYTES = 25
"""The longest text of one number as orjson writes it, with its comma."""

_NUMBERS = {float, int}


class InvalidVectorError(ValueError):
    """The embedder returned something that cannot be made a vector of unit length.

    Args:
        reason: What is wrong with it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DimensionMismatchError(InvalidVectorError):
    """The vector has another size than the table's vectors.

    Args:
        seen: Its size.
        wanted: The size in `EMBED_DIMENSIONS`.
    """

    def __init__(self, seen: int, wanted: int) -> None:
        super().__init__(f"it has {seen} dimensions instead of {wanted}")
        self.seen = seen


def admit(values: object, dimensions: int) -> bytes:
    """Check a vector and bring it to unit length.

    A vector of unit length keeps its text, because 768 numbers of float32 take 9 KB as the
    embedder writes them, and 16 KB after a division.

    Args:
        values: What the embedder returned: a list of `dimensions` numbers, or a `RawVector`, whose
            text is kept unless it contains padding.
        dimensions: The size wanted.

    Returns:
        The vector as JSON text, `[…]`.

    Raises:
        DimensionMismatchError: The list has another size.
        InvalidVectorError: The value is not a list of numbers, a number is not finite, or all
            numbers are zero.
    """
    text = None
    if isinstance(values, RawVector):
        text = values.text
        values = values.values
    if not isinstance(values, list):
        raise InvalidVectorError(f"it is not a list but {_kind(values)}")
    if len(values) != dimensions:
        raise DimensionMismatchError(len(values), dimensions)
    length = _length(values)
    if abs(length - 1.0) <= UNIT_TOLERANCE:
        if text is None or len(text) > MAX_NUMBER_BYTES * dimensions:
            text = _compact(orjson.dumps(values))
        if b"t" not in text and b"f" not in text:  # true and false count as 1 and 0
            return text
    if not set(map(type, values)) <= _NUMBERS:
        other = next(value for value in values if type(value) not in _NUMBERS)
        raise InvalidVectorError(f"it contains {_kind(other)} instead of a number")
    return _compact(orjson.dumps(_normalised(values, length)))


def _length(values: list[object]) -> float:
    """Return the Euclidean length; NaN if a value is not a number."""
    try:
        return math.hypot(*values)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond the largest float
        return math.inf
    except TypeError:
        return math.nan


def _compact(text: bytes) -> bytes:
    """Copy a text into a block of its own size.

    orjson's buffer is a power of two; what it does not use stays as a hole behind the text, too
    small for the next text.
    """
    return bytes(memoryview(text))


def _normalised(values: list[float], length: float) -> list[float]:
    if math.isnan(length):
        raise InvalidVectorError("it contains NaN")
    if math.isinf(length):
        raise InvalidVectorError("it contains an infinite number, or its length is infinite")
    if length == 0.0:
        raise InvalidVectorError("all of its numbers are zero")
    scaled = [value / length for value in values]
    if not abs(math.hypot(*scaled) - 1.0) <= UNIT_TOLERANCE:  # numbers near the smallest float
        raise InvalidVectorError(f"its length {length} is only a rounding error")
    return scaled


def _kind(value: object) -> str:
    names = {type(None): "null", bool: "true or false", str: "a text", dict: "an object"}
    return names.get(type(value), f"{type(value).__name__}")
