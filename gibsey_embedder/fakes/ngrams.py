"""Deterministic vectors from hashed n-grams, without a model.

Words, pairs of words and word beginnings are hashed to an index and a sign in 768 dimensions.
Texts that share words are near each other. This is enough for the demo's search, and a test can
compute the expected vector of any text.
"""

from __future__ import annotations

import functools
import math
import random
import re
import zlib
from collections import Counter
from itertools import pairwise

DIMENSIONS = 768
STEM_CHARS = 5
COMMON_WEIGHT = 0.1
WORD = re.compile(r"[^\W_]+")
COMMON = """
a an and are as at be by can do does for from has have how i if in into is it its may no
not of on or that the their then there these this to was what when where which will with
you search_document search_query search document query
"""
COMMON_WORDS = frozenset(COMMON.split())


def embed_text(text: str) -> list[float]:
    """Return the vector of a text.

    Returns:
        (768,) numbers with at most seven decimals and unit length (±1e-7). A float32 store returns
        numbers below 1 with seven decimals exactly.
    """
    return unit(_features(text))


def unit(weights: list[float]) -> list[float]:
    """Scale `weights` to unit length and round to seven decimals; zeros become (1, 0, …)."""
    if not any(weights):
        return [1.0, *weights[1:]]
    scale = 1.0 / math.sqrt(math.fsum([w * w for w in weights]))
    return [round(w * scale, 7) for w in weights]


def _features(text: str) -> list[float]:
    words = WORD.findall(text.lower())
    weights = [0.0] * DIMENSIONS
    for word, count in Counter(words).items():
        weight = COMMON_WEIGHT if word in COMMON_WORDS else 1.0
        _add(weights, word, weight * (1.0 + math.log(count)))
    stems = Counter([word[:STEM_CHARS] for word in words if len(word) > STEM_CHARS])
    for stem, count in stems.items():
        _add(weights, f"{stem}*", 0.7 * (1.0 + math.log(count)))
    pairs = Counter([f"{left} {right}" for left, right in pairwise(words)])
    for pair, count in pairs.items():
        _add(weights, pair, 0.3 * (1.0 + math.log(count)))
    if not any(weights):
        _add(weights, f"text:{text.strip()}", 1.0)  # punctuation alone needs a vector too
    return weights


def _add(weights: list[float], feature: str, weight: float) -> None:
    number = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
    weights[number % DIMENSIONS] += weight if number & 0x80000000 else -weight


def cheap_vector(text: str) -> bytes:
    """Return the JSON of a unit vector that the text's hash selects, for benchmarks.

    There are 65,536 vectors: the hash selects each half from 256 halves of length √½.
    """
    halves = _halves()
    number = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    return b"[" + halves[number & 0xFF] + b"," + halves[(number >> 8) & 0xFF] + b"]"


@functools.cache
def _halves() -> list[bytes]:
    return [_half(random.Random(seed)) for seed in range(256)]


def _half(source: random.Random) -> bytes:
    numbers = [source.gauss(0.0, 1.0) for _ in range(DIMENSIONS // 2)]
    scale = math.sqrt(0.5 / math.fsum([n * n for n in numbers]))
    return ",".join([f"{n * scale:.7f}" for n in numbers]).encode()
