"""Pages on their way through the embedder, and the texts that they go in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.embedders.text_rules import TextRules

FAULTS_BEFORE_ALONE = 3
"""A text whose windows failed so often goes alone, so that it does not take others along."""


class EmbeddingJob:
    """A page on its way through the embedder; done when `vector` or `refused` is set.

    Args:
        text: The page's text.
        finished: Called on the event loop when the job is done.

    Attributes:
        chunks: The texts that it goes in: one, or the pieces of a long page.
        sent: Whether its text is, or was, in a request.
        dropped: Set by the owner: nobody wants it any more (heeded while it is not sent).
        vector: The vector as JSON text.
        refused: Why no embedder takes the page.
        model: The model that made the vector.
        other_space: Whether that was the fallback, whose vectors do not compare.
        owner: Whatever the owner wants to find it by.
    """

    __slots__ = (
        "chunks",
        "dropped",
        "finished",
        "model",
        "other_space",
        "owner",
        "refused",
        "sent",
        "since",
        "text",
        "vector",
    )

    def __init__(self, text: str, finished: Callable[[EmbeddingJob], None]) -> None:
        self.text = text
        self.finished = finished
        self.chunks: list[Chunk] = []
        self.sent = False
        self.dropped = False
        self.vector: bytes | None = None
        self.refused: str | None = None
        self.model = ""
        self.other_space = False
        self.owner: Any = None
        self.since = time.monotonic()

    def split(self, texts: Sequence[str], rules: TextRules | None) -> list[Chunk]:
        """Let it go in these texts, which were prepared by these rules."""
        self.chunks = [Chunk(self, text, rules) for text in texts]
        return self.chunks

    def end_with(self, vector: bytes, model: str, *, other_space: bool = False) -> None:
        """End it with its vector."""
        self.model = model
        self.other_space = other_space
        self.vector = vector
        self.chunks = []  # they point back: in a cycle the vector would wait for the collector
        self.finished(self)

    def refuse(self, detail: str) -> None:
        """End it without a vector, once."""
        if self.refused is None:
            self.refused = detail
            self.finished(self)


@dataclass(slots=True, eq=False)
class Chunk:
    """A text that goes into a window: a page, or a piece of a long one.

    Attributes:
        job: The page.
        text: The prepared text.
        rules: How it was prepared; None for a text as it is, before any rules are known.
        vector: Its vector, once it has come.
        faults: How often a request with it failed in a way that may be its fault.
        failing_since: When that began (monotonic seconds).
        canary_passed: Whether it failed while a plain word did not.
    """

    job: EmbeddingJob
    text: str
    rules: TextRules | None
    vector: bytes | None = None
    faults: int = 0
    failing_since: float = 0.0
    canary_passed: bool = False

    def failed(self) -> None:
        """Count a failed request that may be its fault."""
        self.faults += 1
        self.failing_since = self.failing_since or time.monotonic()

    @property
    def is_isolated(self) -> bool:
        """Whether it is to go alone."""
        return self.faults >= FAULTS_BEFORE_ALONE

    @property
    def is_open(self) -> bool:
        """Whether it still needs its vector, and was not replaced.

        Its halves replace it, or what another pool is asked for.
        """
        return self.vector is None and self.job.refused is None and self in self.job.chunks

    def replace(self, texts: Sequence[str]) -> list[Chunk]:
        """Let other texts go in its place."""
        place = self.job.chunks.index(self)
        new = [Chunk(self.job, text, self.rules) for text in texts]
        self.job.chunks[place : place + 1] = new
        return new
