"""Opens the vector store for a command."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from connectors.http.client import HttpClient
from connectors.stores.base import VectorStore
from dataflow.clients import vector_store
from dataflow.config.settings import Settings
from gibsey_embedder.terminal.retry_policy import RetryPolicy


@asynccontextmanager
async def open_store(
    settings: Settings, retry_policy: RetryPolicy, http: HttpClient | None = None
) -> AsyncIterator[VectorStore]:
    """Open the store that the settings select; close its connections at the end.

    Args:
        settings: The settings.
        retry_policy: Repeats reads while the store is unavailable, and raises `GaveUpError`.
        http: A client to share, which is closed at the end too.
    """
    http = http or HttpClient(settings.http_ca_file)
    store = vector_store(settings, http, retry_policy.call)
    try:
        yield store
    finally:
        await store.close()
        await http.close()


async def check_columns(store: VectorStore) -> None:
    """Make sure that both tables have the columns that the commands read.

    Raises:
        GaveUpError: A column is missing, or the store is unavailable.
    """
    await store.pages.check_columns()
    await store.vectors.check_columns()
