"""The name of the RAG service, and the reasons of the dead letters that it causes."""

from __future__ import annotations

from connectors.core.services import Service

UNREACHABLE = "rag-unreachable"
REJECTED = "refused-by-rag"

SERVICE = Service(
    "rag",
    "the RAG service",
    reasons=(UNREACHABLE, REJECTED),
    counter="notifications",
    while_away="rows are stored meanwhile, and failed notifications become dead letters",
)
