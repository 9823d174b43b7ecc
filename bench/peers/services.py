"""The URLs of the services, and blocking requests to them, for all peers."""

from __future__ import annotations

import os
from urllib.parse import quote

import httpx
import orjson

TOPIC = os.environ.get("KAFKA_TOPIC", "")
MODEL = "nomic-embed-text"
EMBED_URL = os.environ.get("EMBED_URL", "")
STARGATE_URL = os.environ.get("STARGATE_URL", "")
RAG_URL = os.environ.get("RAG_REFRESH_URL", "")
HEADERS = {"X-Cassandra-Token": os.environ.get("STARGATE_AUTH_TOKEN", "")}
CONSUMER: dict[str, str | int] = {
    "bootstrap.servers": os.environ.get("KAFKA_BROKER", ""),
    "group.id": "peer",
    "auto.offset.reset": "earliest",
    **orjson.loads(os.environ.get("KAFKA_OPTIONS", "{}")),
}


def row_url(page_id: str) -> str:
    """Return the URL of a row."""
    return f"{STARGATE_URL}/v2/keyspaces/gibsey/page_vectors/{quote(page_id, safe='')}"


def embed_one(http: httpx.Client, text: str) -> list[float]:
    """Embed one text with Ollama's legacy endpoint."""
    body = {"model": MODEL, "prompt": text}
    response = http.post(f"{EMBED_URL}/api/embeddings", json=body).raise_for_status()
    return list(orjson.loads(response.content)["embedding"])


def embed_many(http: httpx.Client, texts: list[str]) -> list[list[float]]:
    """Embed texts in one request."""
    body = {"model": MODEL, "input": texts}
    response = http.post(f"{EMBED_URL}/api/embed", json=body, timeout=60).raise_for_status()
    return list(orjson.loads(response.content)["embeddings"])


def store(http: httpx.Client, page_id: str, vector: list[float]) -> None:
    """Write one row."""
    body = orjson.dumps({"vector": vector})
    http.put(row_url(page_id), content=body, headers=HEADERS).raise_for_status()


def notify(http: httpx.Client, page_id: str, vector: list[float]) -> None:
    """Notify the RAG service of one page."""
    body = orjson.dumps({"page_id": page_id, "vector": vector})
    headers = {"Content-Type": "application/json"}
    http.post(RAG_URL, content=body, headers=headers).raise_for_status()
