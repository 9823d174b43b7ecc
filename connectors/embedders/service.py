"""The name of the embedder, and the reasons of the dead letters that it causes."""

from __future__ import annotations

from connectors.core.records import OTHER_SPACE
from connectors.core.services import Service

REJECTED = "refused-by-embedder"

SERVICE = Service("embedder", "the embedder", reasons=(REJECTED, OTHER_SPACE))
