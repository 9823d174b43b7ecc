"""The services of the demo: fakes, or a real Ollama if EMBED_URL is set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import orjson

from gibsey_embedder.fakes.kafka import CLIENT_OPTIONS, MockKafka
from gibsey_embedder.fakes.model import EmbeddingModel
from gibsey_embedder.fakes.ngrams import embed_text
from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import TOKEN, Stargate

REQUEST_S = 0.005
TEXT_S = 0.003
OUTPUT_S = 0.02
EMBED_TIMEOUT_S = 120.0
TOPIC = "cdc.pages"
DEAD_LETTERS = "cdc.pages.dlq"
GROUP = "gibsey-embedder"


class Services:
    """The fakes: the embedder takes 5 ms per request and 3 ms per page, the outputs take 20 ms.

    Args:
        environment: May contain EMBED_URL and EMBED_MODEL of a real Ollama.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self.kafka = MockKafka({TOPIC: 3, DEAD_LETTERS: 1})
        self.ollama = Ollama(request_s=REQUEST_S, text_s=TEXT_S)
        self.stargate = Stargate(delay_s=OUTPUT_S)
        self.rag = Rag(delay_s=OUTPUT_S)
        self.real_url = environment.get("EMBED_URL", "").partition(",")[0].strip()
        self.embed_model = environment.get("EMBED_MODEL", "nomic-embed-text")
        self._api_key = environment.get("EMBED_API_KEY", "")
        self._query_prefix = environment.get("EMBED_QUERY_PREFIX", "")
        self._prefix = environment.get("EMBED_PREFIX", "")
        self._model = EmbeddingModel()
        self._open = ExitStack()

    def __enter__(self) -> Services:
        with ExitStack() as stack:
            for fake in (self.kafka, self.stargate, self.rag):
                stack.enter_context(fake)
            if not self.real_url:
                stack.enter_context(self.ollama)
            self._open = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def settings(self) -> dict[str, str]:
        """Return the worker's settings, without those of a real Ollama."""
        settings = {
            "KAFKA_BROKER": self.kafka.broker,
            "KAFKA_TOPIC": TOPIC,
            "KAFKA_GROUP": GROUP,
            "DEAD_LETTER_TOPIC": DEAD_LETTERS,
            "KAFKA_OPTIONS": orjson.dumps(CLIENT_OPTIONS).decode(),
            "STARGATE_URL": self.stargate.url,
            "STARGATE_AUTH_TOKEN": TOKEN,
            "RAG_REFRESH_URL": self.rag.refresh_url,
        }
        return settings if self.real_url else settings | {"EMBED_URL": self.ollama.embed_url}

    def kept_settings(self) -> tuple[str, ...]:
        """Return prefixes of the settings in the environment that the worker uses too."""
        return ("LOG_", "EMBED_") if self.real_url else ("LOG_",)

    def page_vectors(self, body: str) -> list[list[float]]:
        """Return the expected vectors of a text; a real model may get the text in lower case."""
        if not self.real_url:
            return [embed_text(body)]
        return [self._real(self._prefix + text) for text in (body, body.lower())]

    def question_vector(self, text: str) -> list[float]:
        """Return the vector of a question."""
        return self._real(self._query_prefix + text) if self.real_url else embed_text(text)

    def is_long(self, body: str) -> bool:
        """Whether a page may be embedded in chunks; their mean is similar to the page's vector."""
        return len(body) > self._model.context

    def _real(self, text: str) -> list[float]:
        parts = urlsplit(self.real_url)
        base = self.real_url[: -len(parts.path)] if parts.path else self.real_url
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        response = httpx.post(
            f"{base}/api/embed",
            json={"model": self.embed_model, "input": [text]},
            headers=headers,
            timeout=EMBED_TIMEOUT_S,
        )
        response.raise_for_status()
        return list(response.json()["embeddings"][0])
