"""The rules by which a page's body becomes the text that is embedded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from connectors.embedders.base import ModelInfo

LongPages = Literal["mean", "truncate", "refuse"]


@dataclass(frozen=True, slots=True)
class TextRules:
    """How a page's body becomes the text that is embedded.

    Attributes:
        model: The model; part of the fingerprint, because another model makes other vectors.
        prefix: Precedes each text (nomic-embed-text expects `search_document: `).
        lowercase: Whether texts are lower-cased.
        long_pages: What happens to pages that are longer than the model's context.
    """

    model: str
    prefix: str = ""
    lowercase: bool = False
    long_pages: LongPages = "mean"

    def prepare(self, body: str) -> str:
        """Return the text to embed for a body, or for a chunk of one."""
        text = self.prefix + body
        return text.lower() if self.lowercase else text

    def for_model(self, model_info: ModelInfo, *, detect_lowercase: bool) -> TextRules:
        """Return the rules for a model that a server has described.

        Args:
            model_info: What the server reported.
            detect_lowercase: Whether a server shows if its texts must be lower-cased.
        """
        return self.lowercased() if detect_lowercase and model_info.capitals_defect else self

    def lowercased(self) -> TextRules:
        """Return the same rules with lower-casing."""
        return replace(self, lowercase=True)

    def fingerprint(self, body: str) -> bytes:
        """Return 16 bytes that are equal if, and only if, body and rules are."""
        digest = _digest_of(self.model, self.prefix, str(self.lowercase), self.long_pages).copy()
        _update(digest, body)
        return digest.digest()


@lru_cache(maxsize=16)
def _digest_of(*rules: str) -> hashlib.blake2b:
    """Return the digest of the rules, which every text continues."""
    digest = hashlib.blake2b(digest_size=16)
    for rule in rules:
        _update(digest, rule)
    return digest


def _update(digest: hashlib.blake2b, text: str) -> None:
    data = text.encode(errors="surrogatepass")
    digest.update(len(data).to_bytes(8, "big"))  # separates the texts
    digest.update(data)
