"""Pulls the model on each Ollama server without it."""

from __future__ import annotations

import orjson

from connectors.core.errors import ServiceError
from connectors.core.findings import Finding, bad, from_error, good
from connectors.embedders.ollama.errors import error_text_of
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from dataflow.config.settings import Settings

SHOW_TIMEOUT_S = 10.0
PULL_TIMEOUT_S = 3600.0


async def pull_missing(settings: Settings, http: HttpClient) -> list[Finding]:
    """Pull EMBED_MODEL on each server without it, one server after the other.

    Returns:
        A finding for each server without the model.
    """
    if settings.embed_provider != "ollama":
        return []
    findings = []
    for root in settings.embed_endpoints:
        try:
            if await _is_missing(settings, http, root):
                findings.append(await _pull(settings, http, root))
        except ServiceError as error:
            findings.append(from_error(f"embedder {address_of(root)} pull", error))
    return findings


async def _is_missing(settings: Settings, http: HttpClient, root: str) -> bool:
    body = orjson.dumps({"model": settings.embed_model})
    headers = _headers(settings)
    url = f"{root}/api/show"
    response = await http.request("POST", url, body=body, headers=headers, timeout_s=SHOW_TIMEOUT_S)
    return response.status == 404 and "not found" in error_text_of(response.body)


async def _pull(settings: Settings, http: HttpClient, root: str) -> Finding:
    model, check = settings.embed_model, f"embedder {address_of(root)} pull"
    body = orjson.dumps({"model": model, "stream": True})
    headers = _headers(settings)
    url = f"{root}/api/pull"
    response = await http.request("POST", url, body=body, headers=headers, timeout_s=PULL_TIMEOUT_S)
    last = (response.body.strip().splitlines() or [b""])[-1]
    if response.ok and b'"success"' in last:
        return good(check, f"{model} was pulled")
    remedy = f"correct EMBED_MODEL, or run `ollama pull {model}` on the server"
    return bad(check, f"{model} could not be pulled: {error_text_of(last)}", remedy)


def _headers(settings: Settings) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if settings.embed_api_key:
        headers["Authorization"] = f"Bearer {settings.embed_api_key.get_secret_value()}"
    return headers
