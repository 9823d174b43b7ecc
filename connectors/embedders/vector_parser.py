"""The parser of an embedder's response, which keeps the text of each vector.

A vector that is parsed by itself and passed on as text costs half of one that is parsed with the
response and written again (`docs/performance.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

_FIELD = b'"embeddings":['
_PLACEHOLDER = "vectors"


@dataclass(slots=True)
class RawVector:
    """A vector as an embedder sent it.

    Attributes:
        values: The parsed values.
        text: The same as JSON text, `[…]`.
    """

    values: list[object]
    text: bytes


def parse(body: bytes) -> object:
    """Parse a response.

    Returns:
        The result of `orjson.loads`, in which each list of the outermost field `embeddings` is a
        `RawVector`, provided that the field has Ollama's layout and contains only lists of values.

    Raises:
        orjson.JSONDecodeError: The body is not JSON.
    """
    start = body.find(_FIELD + b"[")
    if start < 0:
        return orjson.loads(body)
    start += len(_FIELD)
    try:
        vectors, end = _vectors(body, start)
        rest = orjson.loads(body[:start] + orjson.dumps(_PLACEHOLDER) + body[end:])
    except ValueError:
        return orjson.loads(body)
    # an inner field of that name, or one that a later field overrides, is not the response's
    if not isinstance(rest, dict) or rest.get("embeddings") != [_PLACEHOLDER]:
        return orjson.loads(body)
    return rest | {"embeddings": vectors}


def _vectors(body: bytes, start: int) -> tuple[list[RawVector], int]:
    """Return the lists of a list whose first one begins at `start`, and the end of the last one.

    Raises:
        ValueError: The list contains something else, or a list contains a list.
    """
    vectors = []
    while True:
        end = body.index(b"]", start) + 1
        text = body[start:end]
        vectors.append(RawVector(orjson.loads(text), text))
        if not body.startswith(b",[", end):
            return vectors, end
        start = end + 1
