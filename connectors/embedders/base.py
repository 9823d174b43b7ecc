"""The interface of an embedder: texts in, admitted vectors out.

RejectedError
└── TextTooLongError            the text is longer than the model's context
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from connectors.core.errors import RejectedError


class TextTooLongError(RejectedError):
    """A text is longer than the model's context, or than what the server takes in one request."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an embedder tells about itself when it is asked what it is like.

    Attributes:
        dimensions: Size of its vectors, as seen in one.
        context_tokens: The model's context length in tokens, or None where it does not tell.
        capitals_defect: Whether all words with capitals look the same to it (Ollama 0.13.1 to
            0.24 with an uncased model), so that texts must be lower-cased before they are sent.
    """

    dimensions: int
    context_tokens: int | None = None
    capitals_defect: bool = False


class EmbedderClient(Protocol):
    """One embedder: a model behind a URL. Used on the event loop only."""

    @property
    def name(self) -> str:
        """Its URL as people are shown it: scheme, host and port, without secrets."""

    @property
    def model(self) -> str:
        """The model that makes the vectors."""

    @property
    def max_texts(self) -> int:
        """The most texts that one `embed` takes."""

    async def embed(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[bytes | None]:
        """Embed texts in one request, or in as few as the server allows.

        Args:
            texts: Prepared texts, none of them blank.
            timeout_s: Seconds for the whole call.
            truncate: Whether to cut what is longer than the model's context.

        Returns:
            One vector a text, in order, as JSON text `[…]`; None for a text whose vector was
            bad while others' were good.

        Raises:
            TransientError: The embedder is away, busy, or answered nonsense.
            ConfigurationError: It will not work before somebody changes something.
            TextTooLongError: One of the texts, not known which, is too long.
            RejectedError: One of the texts, not known which, is refused for another reason.
        """

    async def check(self) -> ModelInfo:
        """Ask the server whether it can do what `embed` will want, and what its model is like.

        Raises:
            TransientError: As `embed`.
            ConfigurationError: As `embed`; the model is missing, or is none for embeddings.
        """
