"""Finds the pages with OpenAI's vectors in the store."""

from __future__ import annotations

import functools
import json

from gibsey_embedder.fakes.openai import OpenAI
from tests.flow.stream import TOLERANCE, Stream


def of_openai(stream: Stream, openai: OpenAI) -> set[str]:
    """Return the pages whose rows have OpenAI's vector of the newest text."""
    rows = stream.stargate.vectors.rows
    return {
        page
        for page, text in stream.texts.items()
        if text and page in rows and _is_right(openai, rows[page], text)
    }


@functools.lru_cache(maxsize=4096)
def _is_right(openai: OpenAI, row: bytes, text: str) -> bool:
    vector = json.loads(row)["vector"]
    right = openai.expected_vector(text)
    return all(abs(a - b) <= TOLERANCE for a, b in zip(vector, right, strict=True))
