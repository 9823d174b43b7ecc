"""The stand-in's embedder: hashed n-grams, no model; deterministic, and honest about it.

ErrorMessage, pairs of words and word beginnings are hashed to a place and a sign in 768 dimensions.
Texts that share words are near each other, which is enough for a demo's search and lets a test
compute the right vector of any text.
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
    """The vector of a text.

    Returns:
        (768,) numbers of at most seven decimals, unit length (± 1e-7). Seven decimals below 1
        are their own shortest float32 text, so a store of float32 gives them back exactly.
    """
    return unit(_features(text))


def unit(weights: list[float]) -> list[float]:
    """`weights` scaled to unit length and rounded to seven decimals; zeros become (1, 0, …)."""
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
        _add(weights, f"text:{text.strip()}", 1.0)  # punctuation alone has a vector too
    return weights


def _add(weights: list[float], feature: str, weight: float) -> None:
    number = zlib.crc32(feature.encode("utf-8", "surrogatepass"))
    weights[number % DIMENSIONS] += weight if number & 0x80000000 else -weight


def cheap_vector(text: str) -> bytes:
    """A unit vector drawn by the text's hash, as ready JSON, for benchmarks: no meaning at all.

    65,536 vectors are told apart: two halves out of 256 each, each of length √½.
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
