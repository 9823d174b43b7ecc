"""An embedder's answer, parsed so that its vectors keep the text that they came in.

Most of what a page costs would be its numbers: parsed all at once, checked, and written again.
Parsed one vector at a time, and passed on as they came, they cost half, and 3 MB less for each
answer, which the system would have to find anew every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

_FIELD = b'"embeddings":['
_MARK = "vectors stood here"


@dataclass(slots=True)
class RawVector:
    """A vector as an embedder sent it.

    Attributes:
        values: What it holds, parsed.
        text: The same as JSON text, `[…]`.
    """

    values: list[object]
    text: bytes


def parse(body: bytes) -> object:
    """Parse an answer.

    Returns:
        As `orjson.loads`, but the lists of an outermost field `embeddings`, where it holds nothing
        else and is laid out as Ollama does, are `RawVector`.

    Raises:
        orjson.JSONDecodeError: It is no JSON.
    """
    start = body.find(_FIELD + b"[")
    if start < 0:
        return orjson.loads(body)
    begin = start + len(_FIELD)
    try:
        vectors, end = _vectors(body, begin)
        rest = orjson.loads(body[:begin] + orjson.dumps(_MARK) + body[end:])
    except ValueError:
        return orjson.loads(body)
    # elsewhere, or not the last of that name, they are not what the answer says
    if not isinstance(rest, dict) or rest.get("embeddings") != [_MARK]:
        return orjson.loads(body)
    return rest | {"embeddings": vectors}


def _vectors(body: bytes, begin: int) -> tuple[list[RawVector], int]:
    """The lists of a list, of which the first begins there; and where the outer one ends.

    Raises:
        ValueError: There is something else in it than lists without lists in them.
    """
    vectors = []
    while True:
        end = body.index(b"]", begin) + 1
        text = body[begin:end]
        vectors.append(RawVector(orjson.loads(text), text))
        if not body.startswith(b",[", end):
            return vectors, end
        begin = end + 1
