"""The pages that wait for their vectors, and the texts that they are embedded in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from connectors.embedders.text_rules import TextRules

ChangeT = TypeVar("ChangeT")

FAILURES_BEFORE_ISOLATION = 3
"""After this many failed requests, a text is sent alone: it cannot make other texts fail then."""


@dataclass(slots=True, eq=False)
class Chunk:
    """A text that is embedded as a whole: a page, or a part of a long page.

    Attributes:
        text: The prepared text.
        rules: The rules that prepared it; None for a text that waits for the rules.
        vector: The vector as JSON text, once the embedder has returned it.
        failures: Failed requests that the text may have caused.
        failing_since: When the first of them failed (monotonic seconds).
        canary_passed: Whether the text failed while the embedder accepted the canary.
    """

    text: str
    rules: TextRules | None
    vector: bytes | None = None
    failures: int = 0
    failing_since: float = 0.0
    canary_passed: bool = False

    def count_failure(self) -> None:
        """Count a failed request that the text may have caused."""
        self.failures += 1
        self.failing_since = self.failing_since or time.monotonic()

    @property
    def is_isolated(self) -> bool:
        """Whether the text is sent alone."""
        return self.failures >= FAILURES_BEFORE_ISOLATION


@dataclass(slots=True, eq=False)
class EmbeddingJob(Generic[ChangeT]):
    """A page on its way through the embedder.

    The caller creates it and owns it again once `finished` was called. In between the batcher
    changes it, on the event loop. It is done when it has a `vector` or was `refused`.

    Attributes:
        text: The page's text.
        finished: Called on the event loop when the job is done.
        change: What the caller embeds the text for; the batcher does not read it.
        chunks: The texts that are embedded: one, or the parts of a long page.
        sent: Whether a request holds, or held, the text.
        dropped: Set by the caller if it no longer needs the vector. The batcher then skips the
            job, unless it was sent.
        vector: The vector as JSON text.
        refused: Why no embedder accepts the page.
        model: The model that made the vector.
        other_space: Whether the fallback made it; vectors of two models cannot be compared.
        since: When the job was created (monotonic seconds).
    """

    text: str
    finished: Callable[[EmbeddingJob[ChangeT]], object]
    change: ChangeT
    chunks: list[Chunk] = field(default_factory=list)
    sent: bool = False
    dropped: bool = False
    vector: bytes | None = None
    refused: str | None = None
    model: str = ""
    other_space: bool = False
    since: float = field(default_factory=time.monotonic)

    @property
    def is_done(self) -> bool:
        """Whether the job has a vector or was refused."""
        return self.vector is not None or self.refused is not None

    def split(self, texts: Sequence[str], rules: TextRules | None) -> list[PendingChunk]:
        """Embed the page in these texts, which were prepared by these rules."""
        self.chunks = [Chunk(text, rules) for text in texts]
        return [PendingChunk(self, chunk) for chunk in self.chunks]

    def complete(self, vector: bytes, model: str, *, other_space: bool = False) -> None:
        """Finish the job with its vector."""
        self.model = model
        self.other_space = other_space
        self.vector = vector
        self.finished(self)

    def refuse(self, detail: str) -> None:
        """Finish the job without a vector."""
        if not self.is_done:
            self.refused = detail
            self.finished(self)


@dataclass(slots=True, eq=False)
class PendingChunk:
    """A chunk with its job, as it waits in the queue and in a request.

    A chunk itself does not refer to its job, because a reference cycle would keep the vector in
    memory until the garbage collector runs.
    """

    job: EmbeddingJob[Any]
    chunk: Chunk

    @property
    def is_open(self) -> bool:
        """Whether the chunk still needs its vector, and no other chunks have replaced it."""
        return self.chunk.vector is None and not self.job.is_done and self.chunk in self.job.chunks

    def replace_with(self, texts: Sequence[str]) -> list[PendingChunk]:
        """Embed these texts instead of the chunk."""
        job = self.job
        index = job.chunks.index(self.chunk)
        chunks = [Chunk(text, self.chunk.rules) for text in texts]
        job.chunks[index : index + 1] = chunks
        return [PendingChunk(job, chunk) for chunk in chunks]
