"""Calls of a client in tests: each has its own connections and closes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import orjson

from connectors.embedders.base import EmbedderClient
from connectors.http.client import HttpClient

C = TypeVar("C")
T = TypeVar("T")


def using(make: Callable[[HttpClient], C], use: Callable[[C], Awaitable[T]]) -> T:
    """Make a client, await `use` of it, close its connections."""

    async def run() -> T:
        http = HttpClient()
        try:
            return await use(make(http))
        finally:
            await http.close()

    return asyncio.run(run())


def vectors_of(
    make: Callable[[HttpClient], EmbedderClient],
    texts: Sequence[str],
    *,
    truncate: bool = False,
    timeout_s: float = 10.0,
) -> list[Any]:
    """The result of `embed`, parsed: for each text a list of floats or None."""
    vectors = using(
        make, lambda client: client.embed(texts, timeout_s=timeout_s, truncate=truncate)
    )
    return [None if vector is None else orjson.loads(vector) for vector in vectors]
