"""The rules by which a page's body becomes the text that is embedded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

LongPages = Literal["mean", "truncate", "refuse"]


@dataclass(frozen=True, slots=True)
class TextRules:
    """How a page's body becomes the text that is embedded.

    Attributes:
        model: The model's name; part of the fingerprint, since another model means other vectors.
        prefix: Put before each text (nomic-embed-text wants `search_document: `).
        lowercase: Whether texts are lower-cased.
        long_pages: What happens to pages that are longer than the model's context.
    """

    model: str
    prefix: str = ""
    lowercase: bool = False
    long_pages: LongPages = "mean"

    def prepare(self, body: str) -> str:
        """The text to embed for a body, or for a piece of one."""
        text = self.prefix + body
        return text.lower() if self.lowercase else text

    def lowercased(self) -> TextRules:
        """The same rules with lower-casing."""
        return replace(self, lowercase=True)

    def fingerprint(self, body: str) -> bytes:
        """16 bytes that differ when body or rules do: the same ones mean the same vector."""
        digest = _begun(self.model, self.prefix, str(self.lowercase), self.long_pages).copy()
        _digest(digest, body)
        return digest.digest()


@lru_cache(maxsize=16)
def _begun(*parts: str) -> hashlib.blake2b:
    """A digest of all of it that is the same for each text."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        _digest(digest, part)
    return digest


def _digest(digest: hashlib.blake2b, part: str) -> None:
    data = part.encode(errors="surrogatepass")
    digest.update(len(data).to_bytes(8, "big"))  # so that no two parts run into another
    digest.update(data)
