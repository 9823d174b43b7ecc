"""The interfaces of the batcher: for the step that embeds pages, and for the status port."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from connectors.embedders.batching.jobs import EmbeddingJob
from connectors.embedders.endpoint import EndpointStatus
from connectors.embedders.failover import FallbackStatus
from connectors.embedders.text_rules import TextRules


class JobEmbedder(Protocol):
    """Embeds pages; all methods may be called from any thread."""

    @property
    def rules(self) -> TextRules | None:
        """The primary's text rules; None until it has described its model."""

    def submit(self, jobs: Sequence[EmbeddingJob[Any]]) -> None:
        """Embed pages."""

    def halt(self) -> Future[None]:
        """Send no further window; the future is done when no request is in flight."""
        ...


class BatcherStatus(Protocol):
    """The status of a batcher; all methods may be called from any thread."""

    @property
    def queued_texts(self) -> int:
        """How many texts wait for a window."""
        ...

    def endpoints(self) -> Sequence[EndpointStatus]:
        """Return the status of the endpoints in use."""
        ...

    @property
    def fallback_status(self) -> FallbackStatus | None:
        """The status of the fallback; None while the primary embeds."""
