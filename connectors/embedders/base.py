"""The interface of an embedder: texts in, admitted vectors out.

    RejectedError
    └── TextTooLongError        the text is longer than the model's context

All other errors are those of `connectors.core.errors`.
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
    """What an embedder reports about its model.

    Attributes:
        dimensions: The size of its vectors, as a vector shows it.
        context_tokens: The model's context length in tokens; None if the server does not report it.
        capitals_defect: Whether all capitalised words look the same to the model (Ollama 0.13.1 to
            0.24 with an uncased model), so that texts must be lower-cased.
    """

    dimensions: int
    context_tokens: int | None = None
    capitals_defect: bool = False


class EmbedderClient(Protocol):
    """One embedder: a model behind a URL. Used on the event loop only."""

    @property
    def name(self) -> str:
        """Scheme, host and port of its URL, for messages; without secrets."""

    @property
    def model(self) -> str:
        """The model that makes the vectors."""

    @property
    def max_texts(self) -> int:
        """The most texts of one `embed`."""

    async def embed(
        self, texts: Sequence[str], *, timeout_s: float, truncate: bool
    ) -> list[bytes | None]:
        """Embed texts in one request, or in as few as the server allows.

        Args:
            texts: Prepared texts; none of them is blank.
            timeout_s: Seconds for the whole call.
            truncate: Whether to truncate texts that are longer than the model's context.

        Returns:
            One admitted vector for each text, in order, as JSON text `[…]`; None for a text whose
            vector is invalid while another text's is valid.

        Raises:
            TransientError: The embedder is unavailable or busy, or its response is unusable.
            ConfigurationError: The embedder cannot work before somebody changes a setting.
            TextTooLongError: One of the texts is too long.
            RejectedError: The embedder refuses one of the texts for another reason.
        """

    async def check(self) -> ModelInfo:
        """Check that the server can embed texts, and describe its model.

        Raises:
            TransientError: As `embed`.
            ConfigurationError: As `embed`; or the model is missing, or does not make embeddings.
        """
