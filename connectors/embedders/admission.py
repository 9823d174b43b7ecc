"""The check that a vector may be stored: it has the right size and unit length.

ValueError
└── InvalidVectorError
└── DimensionMismatchError
"""

from __future__ import annotations

import math

import orjson

from connectors.embedders.vector_parser import RawVector

UNIT_TOLERANCE = 9e-7
"""How far a length may be from 1 to be passed on as it is: promised is 1e-6, of which rounding
to the table's float32 may take 6e-8. Ollama's own vectors are off by up to 5e-7."""

MOST_NUMBER_BYTES = 25
"""Text of any number that orjson writes."""

_NUMBERS = {float, int}


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
