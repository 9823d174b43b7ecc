"""The embedder: reachable, model there, dimensions, context, capitals, speed, agreement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from connectors.core.errors import ConfigurationError, ServiceError
from connectors.embedders.base import EmbedderClient, ModelInfo
from dataflow.config.settings import Settings
from gibsey_embedder.doctor.findings import Finding, bad, from_error, good, warning

FACTS_S = 10.0
"""How long the first answers may take; a model may have to be loaded."""
SAMPLE_S = 7.0
SLOW_S = 1.0
"""Seconds a page beyond which it is worth a word."""
SMALL_CONTEXT = 2048
PAGE = "The library of the lower town keeps its catalogue on cards of grey board. " * 27
"""An ordinary page: 2,000 characters."""
SAME = 0.999
"""Cosine from which vectors of one text are of one model."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What one endpoint showed.

    Attributes:
        findings: What to tell.
        vector: Its vector of `PAGE`, if it made one.
    """

    findings: list[Finding]
    vector: list[float] | None = None


async def check_embedders(settings: Settings, clients: Sequence[EmbedderClient]) -> list[Finding]:
    """Ask every endpoint for what the stream will want, all at the same time."""
    seen = await asyncio.gather(*(_check(settings, client) for client in clients))
    findings = [finding for one in seen for finding in one.findings]
    return findings + _agreement(clients, seen)


async def _check(settings: Settings, client: EmbedderClient) -> Seen:
    check = f"embedder {client.name}"
    try:
        model_info = await asyncio.wait_for(client.check(), FACTS_S)
    except asyncio.TimeoutError:
        found = f"{client.name} did not answer within {FACTS_S:.0f} s"
        remedy = "it may be loading the model: try again; else look at its log, or restart it"
        return Seen([bad(check, found, remedy)])
    except ServiceError as error:
        return Seen([_fault(check, error)])
    findings = [good(check, f"has {client.model}, {model_info.dimensions} dimensions")]
    if settings.embed_provider == "ollama":
        findings += [_context(check, model_info), _capitals(check, model_info, settings)]
    speed, vector = await _sample(check, client)
    return Seen([*findings, speed], vector)


def _fault(check: str, error: ServiceError) -> Finding:
    finding = from_error(check, error, "start the embedder, or correct EMBED_URL")
    if "ollama pull" not in finding.remedy:
        return finding
    return bad(check, finding.found, f"{finding.remedy}; or `gibsey-embedder doctor --pull`")


def _context(check: str, model_info: ModelInfo) -> Finding:
    tokens = model_info.context_tokens
    if tokens is None:
        return good(f"{check} context", f"not told; {SMALL_CONTEXT} tokens are assumed")
    if tokens < SMALL_CONTEXT:
        found = f"the context is {tokens} tokens: longer pages are cut into many parts"
        remedy = f"set num_ctx of the model to {SMALL_CONTEXT}, or see LONG_PAGES"
        return warning(f"{check} context", found, remedy)
    return good(f"{check} context", f"{tokens:,} tokens")


def _capitals(check: str, model_info: ModelInfo, settings: Settings) -> Finding:
    check = f"{check} capitals"
    if not model_info.capitals_defect:
        return good(check, "words with capitals are told apart")
    found = "all words with a capital look the same to it (Ollama 0.13.1 to 0.24)"
    mode = settings.embed_lowercase
    if mode == "off":
        return bad(check, found, "set EMBED_LOWERCASE=auto, then backfill")
    return good(check, f"{found}; pages are lower-cased, which mends it (EMBED_LOWERCASE={mode})")


async def _sample(check: str, client: EmbedderClient) -> tuple[Finding, list[float] | None]:
    """Embed an ordinary page, and say how long it took."""
    check = f"{check} speed"
    began = time.monotonic()
    try:
        vectors = await client.embed([PAGE], timeout_s=SAMPLE_S, truncate=True)
    except ServiceError as error:
        return _too_slow(check, error), None
    page_s = time.monotonic() - began
    vector = orjson.loads(vectors[0]) if vectors[0] is not None else None
    shown = f"{page_s:.2g} s a page of {len(PAGE):,} characters"
    if page_s < SLOW_S:
        return good(check, shown), vector
    return warning(check, shown, _FASTER), vector


_FASTER = "give it a GPU, or more servers in EMBED_URL"


def _too_slow(check: str, error: ServiceError) -> Finding:
    remedy = (
        error.remedy if isinstance(error, ConfigurationError) else f"look at its log; {_FASTER}"
    )
    return bad(check, f"an ordinary page was not embedded: {error.detail}", remedy)


def _agreement(clients: Sequence[EmbedderClient], seen: Sequence[Seen]) -> list[Finding]:
    """Whether all endpoints make the same vector of the same text."""
    made = [(c.name, one.vector) for c, one in zip(clients, seen, strict=True) if one.vector]
    if len(made) < 2:
        return []
    first_name, first = made[0]
    odd = [name for name, vector in made[1:] if _cosine(first or [], vector or []) < SAME]
    if not odd:
        return [good("embedder agreement", f"{len(made)} endpoints make the same vectors")]
    found = f"{', '.join(odd)} makes other vectors than {first_name} of the same text"
    remedy = "pull the same model on all of them: `ollama show` tells which each one has"
    return [bad("embedder agreement", found, remedy)]


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))
