"""The settings of the program, read from the environment and from `.env`, and checked together.

The text below each field also explains the setting in `.env.example` and in docs/settings.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from connectors.observability.redaction import MASK
from dataflow.config import sources, values
from dataflow.config.validation import (
    SettingProblem,
    SettingsError,
    cross_problems,
    field_problems,
    quoted_problems,
)
from dataflow.config.values import (
    AuthUrl,
    BaseUrl,
    Brokers,
    EmbedUrls,
    ExistingFile,
    Identifier,
    KafkaOptions,
    OpenAIUrl,
    Secret,
    StargateUrl,
    Topic,
    Url,
)

__all__ = ["Settings", "SettingsError", "load_settings"]

SECRETS = (
    "kafka_password",
    "embed_api_key",
    "openai_api_key",
    "stargate_auth_token",
    "stargate_password",
    "rag_auth_token",
)

Name = Annotated[str, Field(min_length=1)]
Host = Annotated[str, Field(pattern=r"^[^\s/]+$")]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"]
Lower = BeforeValidator(values.lower)
Upper = BeforeValidator(values.upper)


class Settings(BaseSettings):
    """The settings, named like their variables in lower case; frozen, and safe to print.

    Raises:
        SettingsError: With all problems at once, when an instance is created.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    kafka_broker: Brokers = "kafka:9092"
    """Kafka brokers, separated by commas: host:port, or kafka+ssl://host:port for TLS."""
    kafka_topic: Topic = "cdc.pages"
    """Topic of the page changes."""
    kafka_group: Name = "gibsey-embedder"
    """Consumer group under which the program commits offsets."""
    dead_letter_topic: Topic = Field(
        default_factory=lambda given: f"{given.get('kafka_topic', 'cdc.pages')}.dlq"
    )
    """Topic for events that can never be processed (dead letters). Default: {KAFKA_TOPIC}.dlq"""
    kafka_username: Name | None = None
    """User name for Kafka's login (SASL)."""
    kafka_password: Secret | None = None
    """Password for Kafka's login."""
    kafka_sasl_mechanism: Annotated[Mechanism | None, Upper] = None
    """PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI. Default: PLAIN if KAFKA_USERNAME
    is set."""
    kafka_ca_file: ExistingFile | None = None
    """PEM file with the certificates to trust for Kafka. Default: the system's certificates."""
    kafka_options: KafkaOptions = Field(default_factory=dict)
    """Additional librdkafka properties as JSON, for example {"fetch.wait.max.ms": 50}."""

    embed_provider: Annotated[Literal["ollama", "openai"], Lower] = "ollama"
    """Service that computes the vectors: ollama or openai."""
    embed_url: EmbedUrls = "http://ollama:11434/api/embeddings"
    """Ollama servers, separated by commas. Several servers share the work."""
    embed_model: Name = "nomic-embed-text"
    """Model of Ollama. Its vectors must have EMBED_DIMENSIONS numbers."""
    embed_dimensions: Annotated[int, Field(ge=1, le=16384)] = 768
    """Number of dimensions of a vector."""
    embed_api_key: Secret | None = None
    """Bearer token for EMBED_URL, for a proxy in front of Ollama."""
    embed_concurrency: Annotated[int, Field(ge=1, le=256)] | None = None
    """Maximum number of concurrent requests to each embedder. Default: 2, or 4 with OpenAI.
    Increase it if one address stands for several servers."""
    embed_prefix: str = ""
    """Text before each page, for example "search_document: ". After a change, run `gibsey-embedder
    backfill`."""
    embed_query_prefix: str = ""
    """Text before each question of `gibsey-embedder search`, for example "search_query: "."""
    embed_lowercase: Annotated[Literal["auto", "on", "off"], Lower] = "auto"
    """Whether to convert pages to lower case: auto (only if the model loses capitals), on or
    off."""
    long_pages: Annotated[Literal["mean", "truncate", "refuse"], Lower] = "mean"
    """Treatment of pages longer than the model's context: mean (the mean vector of their chunks),
    truncate or refuse (dead letter)."""
    embed_fallback: Annotated[Literal["none", "openai"], Lower] = "none"
    """Service that embeds while Ollama is unavailable: none (the stream waits) or openai. Replay
    the pages of openai afterwards, because its vectors cannot be compared with Ollama's."""
    embed_fallback_after: Annotated[float, Field(ge=0)] = 30.0
    """Seconds for which all Ollama servers must fail before the fallback takes over."""
    openai_api_key: Secret | None = None
    """API key of OpenAI."""
    openai_url: OpenAIUrl = "https://api.openai.com/v1"
    """Base URL of the OpenAI API, or of a compatible server or proxy."""
    openai_model: Name = "text-embedding-3-small"
    """Model of OpenAI. Requests ask for EMBED_DIMENSIONS numbers."""
    cache_pages: Annotated[int, Field(ge=0, le=10_000_000)] = 2048
    """Number of vectors in the cache, which avoids embedding a repeated text. Each takes
    9.5 KB; memory grows until the cache is full."""

    window_pages: Annotated[int, Field(ge=1, le=2048)] = 32
    """Maximum number of pages in one request to the embedder."""
    window_chars: Annotated[int, Field(ge=1)] = 100_000
    """Maximum number of characters in one request to the embedder. A longer page has a request of
    its own."""
    window_ms: Annotated[float, Field(ge=0, le=60_000)] = 0.0
    """Milliseconds for which a page waits for more pages. 0: a window never waits; under load,
    windows fill by themselves."""

    stargate_url: StargateUrl = "http://stargate:8080"
    """URL of Stargate's REST API v2 (port 8082 in Stargate's own images)."""
    stargate_auth_token: Secret | None = None
    """Token for Stargate. Alternatively, set the next three settings."""
    stargate_username: Name | None = None
    """User name with which the program fetches and renews tokens."""
    stargate_password: Secret | None = None
    """Password for STARGATE_USERNAME."""
    stargate_auth_url: AuthUrl | None = None
    """URL of Stargate's auth service, for example http://stargate:8081."""
    stargate_keyspace: Identifier = "gibsey"
    """Keyspace of the tables."""
    stargate_table: Identifier = "page_vectors"
    """Table of the vectors."""
    stargate_pages_table: Identifier = "pages"
    """Table of the pages, for `gibsey-embedder audit` and `backfill`."""
    stargate_model_column: Identifier | None = None
    """Text column of STARGATE_TABLE for the name of the model that made the vector. Empty: no such
    column."""
    stargate_bulk: Annotated[Literal["rest", "graphql", "custom"], Lower] = "rest"
    """API for writing rows: rest (one row per request), graphql (many rows per request) or custom
    (STARGATE_BULK_URL)."""
    stargate_bulk_rows: Annotated[int, Field(ge=1, le=100)] = 100
    """Maximum number of rows per request with graphql and custom."""
    stargate_bulk_url: Url | None = None
    """URL for custom. It accepts PUT with [{"page_id", "vector"}, ...]; 2xx means that all rows are
    stored."""
    stargate_graphql_url: BaseUrl = Field(
        default_factory=lambda given: f"{given.get('stargate_url', '')}/graphql"
    )
    """URL of Stargate's GraphQL API, without the keyspace. Default: {STARGATE_URL}/graphql"""
    stargate_concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    """Maximum number of concurrent requests to Stargate."""

    rag_refresh_url: Url = "http://rag_service:8001/refresh"
    """URL that is notified of each page's new vector."""
    rag_auth_token: Secret | None = None
    """Bearer token for RAG_REFRESH_URL."""
    rag_timeout: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Timeout of a notification, in seconds."""
    rag_concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    """Maximum number of concurrent notifications."""
    http_ca_file: ExistingFile | None = None
    """PEM file with the certificates to trust for HTTPS. Default: the system's certificates."""

    on_delete: Annotated[Literal["ignore", "delete"], Lower] = "ignore"
    """What happens to the vector of a deleted page: ignore (it stays) or delete."""
    recovery_dir: Name = "./recovery"
    """Directory of the recovery store, for `gibsey-embedder run`."""
    recovery_partitions: Annotated[int, Field(ge=1, le=1024)] = 4
    """Number of files of a new recovery store, which the workers share. It cannot change later."""
    snapshot_seconds: Annotated[int, Field(ge=1, le=3600)] = 5
    """Seconds between two snapshots. After a kill, the work of up to two intervals is repeated."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of worker threads of `gibsey-embedder run`."""
    status_host: Host = "127.0.0.1"
    """Address on which the status port listens."""
    status_port: Annotated[int, Field(ge=0, le=65535)] = 6066
    """Port of the status page, /metrics, /healthz and /readyz. 0: off."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = "info"
    """Lowest level that is logged: debug, info, warning or error."""
    log_format: Annotated[Literal["console", "json"], Lower] = "console"
    """Format of the log: console (for people) or json (for log collectors)."""

    @property
    def brokers(self) -> str:
        """The brokers as `host:port`, separated by commas: librdkafka's `bootstrap.servers`."""
        return ",".join(values.parse_brokers(self.kafka_broker)[0])

    @property
    def kafka_tls(self) -> bool:
        """Whether the brokers use TLS."""
        return values.parse_brokers(self.kafka_broker)[1]

    @property
    def sasl_mechanism(self) -> str | None:
        """The SASL mechanism, or None if there is no login."""
        return self.kafka_sasl_mechanism or ("PLAIN" if self.kafka_username else None)

    @property
    def embed_endpoints(self) -> tuple[str, ...]:
        """The base URL of each Ollama server, such as `http://ollama:11434`."""
        return values.parse_embed_urls(self.embed_url)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the variable names of all settings, in order."""
        return tuple(field.upper() for field in cls.model_fields)

    @classmethod
    def unknown_names(cls) -> list[tuple[str, str]]:
        """Return variables that look misspelt, each with the most similar setting."""
        known = {*cls.names(), *(f"{secret.upper()}_FILE" for secret in SECRETS)}
        given = {*sources.environment_of(cls), *DotEnvSettingsSource(cls).env_vars}
        return sources.misspelt({name.upper() for name in given}, known)

    def redacted(self) -> dict[str, str]:
        """Return all values by variable name, without secrets; empty for a missing value."""
        return {field.upper(): self._redacted_value(field) for field in type(self).model_fields}

    def secret_values(self) -> tuple[str, ...]:
        """Return the secrets in plain text, so that the log can redact them."""
        given = (getattr(self, field) for field in SECRETS)
        options = self.kafka_options.items()
        hidden = [str(v) for k, v in options if values.redact_option(k, v) == MASK]
        fields = (field for field in type(self).model_fields if field.endswith("_url"))
        passwords = [urlsplit(url).password for field in fields for url in self._urls_in(field)]
        plain = (secret.get_secret_value() for secret in given if secret)
        return tuple(filter(None, (*plain, *hidden, *passwords)))

    def _urls_in(self, field: str) -> list[str]:
        value: str = getattr(self, field) or ""
        return value.split(",") if field == "embed_url" else [value]

    def _redacted_value(self, field: str) -> str:
        value = getattr(self, field)
        if value is None:
            return ""
        if isinstance(value, SecretStr):
            return MASK
        if field.endswith("_url"):
            return ",".join(map(values.redact_url, self._urls_in(field)))
        if field == "kafka_options":
            shown = {name: values.redact_option(name, value[name]) for name in value}
            return json.dumps(shown) if shown else ""
        return f"{value:g}" if isinstance(value, float) else str(value)

    def __repr_args__(self) -> Iterable[tuple[str, str]]:
        return ((name.lower(), value) for name, value in self.redacted().items())

    @model_validator(mode="wrap")
    @classmethod
    def _report_all_problems(cls, data: Any, handler: Any) -> Settings:
        """Check each field and the fields together, and raise all problems at once."""
        problems = quoted_problems(data, cls.model_fields)
        settings = None
        try:
            settings = handler(data)
        except ValidationError as error:
            problems += _of_others(field_problems(error, cls.model_fields), problems)
        problems += _of_others(cross_problems(data, cls.model_fields), problems)
        if problems:
            misspelt = [
                (name, f"is not a setting; did you mean {setting}?")
                for name, setting in cls.unknown_names()
            ]
            raise SettingsError(
                [*sorted(problems, key=lambda problem: cls.names().index(problem[0])), *misspelt]
            )
        assert isinstance(settings, cls)  # noqa: S101 - the handler returned it, or there are problems
        return settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read files of secrets before plain variables, and the environment before `.env`."""
        del file_secret_settings
        environment = sources.environment_of(settings_cls)
        dotenv = DotEnvSettingsSource(settings_cls).env_vars
        files = sources.SecretFiles(settings_cls, SECRETS, environment, dotenv)
        return init_settings, files, env_settings, dotenv_settings


def _of_others(problems: list[SettingProblem], known: list[SettingProblem]) -> list[SettingProblem]:
    """Return the problems of settings that have no known problem."""
    names = {name for name, _ in known}
    return [problem for problem in problems if problem[0] not in names]


def load_settings() -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        SettingsError: With all problems at once; `str()` is text for the terminal.
    """
    try:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        problem = f"cannot be read ({error}); correct or remove it"
        raise SettingsError([(".env", problem)]) from None
