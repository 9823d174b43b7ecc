"""Checks the embedder: connection, model, dimensions, context, capitals, speed, agreement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from connectors.core.errors import ConfigurationError, ServiceError
from connectors.core.findings import Finding, bad, from_error, good, warning
from connectors.embedders.base import EmbedderClient, ModelInfo
from dataflow.config.settings import Settings

SMALL_CONTEXT = 2048
PAGE = "The library of the lower town keeps its catalogue on cards of grey board. " * 27
"""An ordinary page: 2,000 characters."""
SAME = 0.999
"""Minimum cosine of two vectors that one model makes of the same text."""
_FASTER = "give it a GPU, or more servers in EMBED_URL"


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the embedder's checks.

    Attributes:
        model_timeout_s: Timeout of the first request, which may have to load the model.
        page_timeout_s: Timeout of embedding an ordinary page.
        slow_page_s: A page that takes longer gets a warning.
    """

    model_timeout_s: float = 10.0
    page_timeout_s: float = 7.0
    slow_page_s: float = 1.0


@dataclass(frozen=True, slots=True)
class EndpointResult:
    """The result of one endpoint.

    Attributes:
        findings: The findings.
        vector: The vector of `PAGE`, or None.
    """

    findings: list[Finding]
    vector: list[float] | None = None


async def check_embedders(
    settings: Settings, clients: Sequence[EmbedderClient], limits: Limits
) -> list[Finding]:
    """Check all endpoints concurrently."""
    results = await asyncio.gather(*(_check(settings, client, limits) for client in clients))
    findings = [finding for result in results for finding in result.findings]
    return findings + _agreement(clients, results)


async def _check(settings: Settings, client: EmbedderClient, limits: Limits) -> EndpointResult:
    check = f"embedder {client.name}"
    try:
        model_info = await asyncio.wait_for(client.check(), limits.model_timeout_s)
    except asyncio.TimeoutError:
        found = f"{client.name} did not respond within {limits.model_timeout_s:.0f} s"
        remedy = "try again, because it may be loading the model; or see its log and restart it"
        return EndpointResult([bad(check, found, remedy)])
    except ServiceError as error:
        return EndpointResult([_error_finding(check, error)])
    findings = [good(check, f"has {client.model}, {model_info.dimensions} dimensions")]
    if settings.embed_provider == "ollama":
        findings += [_context(check, model_info), _capitals(check, model_info, settings)]
    speed, vector = await _embed_page(check, client, limits)
    return EndpointResult([*findings, speed], vector)


def _error_finding(check: str, error: ServiceError) -> Finding:
    finding = from_error(check, error, "start the embedder, or correct EMBED_URL")
    if "ollama pull" not in finding.remedy:
        return finding
    return bad(check, finding.found, f"{finding.remedy}; or `gibsey-embedder doctor --pull`")


def _context(check: str, model_info: ModelInfo) -> Finding:
    tokens = model_info.context_tokens
    if tokens is None:
        return good(f"{check} context", f"unknown; {SMALL_CONTEXT} tokens are assumed")
    if tokens < SMALL_CONTEXT:
        found = f"the context is {tokens} tokens, so longer pages are cut into many chunks"
        remedy = f"set num_ctx of the model to {SMALL_CONTEXT}, or see LONG_PAGES"
        return warning(f"{check} context", found, remedy)
    return good(f"{check} context", f"{tokens:,} tokens")


def _capitals(check: str, model_info: ModelInfo, settings: Settings) -> Finding:
    check = f"{check} capitals"
    if not model_info.capitals_defect:
        return good(check, "the model distinguishes words with capitals")
    found = "all words with a capital look the same to the model (Ollama 0.13.1 to 0.24)"
    mode = settings.embed_lowercase
    if mode == "off":
        return bad(check, found, "set EMBED_LOWERCASE=auto, then backfill")
    return good(check, f"{found}; the stream lower-cases pages (EMBED_LOWERCASE={mode})")


async def _embed_page(
    check: str, client: EmbedderClient, limits: Limits
) -> tuple[Finding, list[float] | None]:
    """Embed an ordinary page and measure the time."""
    check = f"{check} speed"
    began = time.monotonic()
    try:
        vectors = await client.embed([PAGE], timeout_s=limits.page_timeout_s, truncate=True)
    except ServiceError as error:
        return _page_error(check, error), None
    page_s = time.monotonic() - began
    vector = orjson.loads(vectors[0]) if vectors[0] is not None else None
    found = f"{page_s:.2g} s per page of {len(PAGE):,} characters"
    if page_s < limits.slow_page_s:
        return good(check, found), vector
    return warning(check, found, _FASTER), vector


def _page_error(check: str, error: ServiceError) -> Finding:
    remedy = error.remedy if isinstance(error, ConfigurationError) else f"see its log; {_FASTER}"
    return bad(check, f"an ordinary page was not embedded: {error.detail}", remedy)


def _agreement(
    clients: Sequence[EmbedderClient], results: Sequence[EndpointResult]
) -> list[Finding]:
    """Check that all endpoints make the same vector of the same text."""
    vectors = [(c.name, r.vector) for c, r in zip(clients, results, strict=True) if r.vector]
    if len(vectors) < 2:
        return []
    first_name, first = vectors[0]
    others = [name for name, vector in vectors[1:] if _cosine(first or [], vector or []) < SAME]
    if not others:
        return [good("embedder agreement", f"{len(vectors)} endpoints make the same vectors")]
    found = f"{', '.join(others)} makes other vectors than {first_name} of the same text"
    remedy = "pull the same model on all servers; `ollama show` prints the model of a server"
    return [bad("embedder agreement", found, remedy)]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
