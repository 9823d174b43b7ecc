"""Makes the clients of services from the settings, for the stream and for the commands.

A new store is chosen in `vector_store`; nothing else knows which stores there are.
"""

from __future__ import annotations

from pydantic import SecretStr

from connectors.core.services import Service
from connectors.embedders.base import EmbedderClient
from connectors.embedders.ollama.client import OllamaClient
from connectors.embedders.openai.client import OpenAIClient
from connectors.embedders.service import SERVICE as EMBEDDER
from connectors.embedders.text_rules import TextRules
from connectors.http.client import HttpClient
from connectors.kafka.config import KafkaConfig
from connectors.kafka.dead_letters.service import SERVICE as DEAD_LETTERS
from connectors.kafka.service import SERVICE as KAFKA
from connectors.rag.service import SERVICE as RAG
from connectors.stores.base import Retry, VectorStore, once
from connectors.stores.stargate.config import StargateConfig
from connectors.stores.stargate.service import SERVICE as STARGATE
from connectors.stores.stargate.store import StargateStore
from dataflow.config.settings import Settings

STORES = (STARGATE,)
"""Every store that the program can write to."""


def vector_store(settings: Settings, http: HttpClient, retry: Retry = once) -> VectorStore:
    """Return the store that the settings select.

    Args:
        settings: The settings in force.
        http: The HTTP client; the caller closes it.
        retry: Repeats the commands' reads while the store is unavailable.
    """
    config = StargateConfig(
        url=settings.stargate_url,
        keyspace=settings.stargate_keyspace,
        vectors=settings.stargate_table,
        pages=settings.stargate_pages_table,
        model_column=settings.stargate_model_column,
        token=secret_text(settings.stargate_auth_token) or "",
        username=settings.stargate_username,
        password=secret_text(settings.stargate_password),
        auth_url=settings.stargate_auth_url,
        bulk=settings.stargate_bulk,
        bulk_rows=settings.stargate_bulk_rows,
        bulk_url=settings.stargate_bulk_url,
        graphql_url=settings.stargate_graphql_url,
        concurrency=settings.stargate_concurrency,
    )
    return StargateStore(config, http, retry)


def services_with(store: Service) -> tuple[Service, ...]:
    """Return every service that a stream with this store uses."""
    return (KAFKA, EMBEDDER, store, RAG, DEAD_LETTERS)


def dead_letter_reasons() -> list[str]:
    """Return every reason that a dead letter can have, with any store."""
    services = [service for store in STORES for service in services_with(store)]
    return list(dict.fromkeys(reason for service in services for reason in service.reasons))


def kafka_config(settings: Settings) -> KafkaConfig:
    """Return how to reach Kafka."""
    return KafkaConfig(
        settings.brokers,
        topic=settings.kafka_topic,
        group=settings.kafka_group,
        tls=settings.kafka_tls,
        ca_file=_path(settings.kafka_ca_file),
        username=settings.kafka_username,
        password=secret_text(settings.kafka_password),
        sasl_mechanism=settings.sasl_mechanism,
        options=settings.kafka_options,
    )


def embedding_clients(settings: Settings, http: HttpClient) -> list[EmbedderClient]:
    """Return the embedder's endpoints: one for each URL, or OpenAI's one."""
    if settings.embed_provider == "openai":
        return [openai_client(settings, http)]
    dimensions, key = settings.embed_dimensions, secret_text(settings.embed_api_key)
    return [
        OllamaClient(http, url, settings.embed_model, dimensions, key)
        for url in settings.embed_endpoints
    ]


def openai_client(settings: Settings, http: HttpClient) -> OpenAIClient:
    """Return the client of OpenAI, or of a compatible server."""
    return OpenAIClient(
        http,
        settings.openai_url,
        secret_text(settings.openai_api_key),
        settings.openai_model,
        settings.embed_dimensions,
    )


def text_rules(settings: Settings) -> TextRules:
    """Return how texts are prepared, as far as the settings determine it."""
    is_openai = settings.embed_provider == "openai"
    return TextRules(
        model=settings.openai_model if is_openai else settings.embed_model,
        prefix=settings.embed_prefix,
        lowercase=settings.embed_lowercase == "on",
        long_pages=settings.long_pages,
    )


def secret_text(secret: SecretStr | None) -> str | None:
    """Return the text of a secret setting, if it is set."""
    return secret.get_secret_value() if secret else None


def _path(path: object) -> str | None:
    return str(path) if path else None
