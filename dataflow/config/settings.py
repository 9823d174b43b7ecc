"""Every setting of the program, read from the environment and from `.env`, checked together.

The sentence below each field is also its explanation in `.env.example`.
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

__all__ = ["Settings", "SettingsError", "load"]

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
    """The settings, by their variables' names in small letters; frozen, safe to print.

    Raises:
        SettingsError: On construction, with all faults at once.
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
    """Where Kafka is: host:port, or kafka+ssl://host:port for TLS; several with commas."""
    kafka_topic: Topic = "cdc.pages"
    """The topic with the changes of pages."""
    kafka_group: Name = "gibsey-embedder"
    """The consumer group under which positions are committed."""
    dead_letter_topic: Topic = Field(
        default_factory=lambda given: f"{given.get('kafka_topic', 'cdc.pages')}.dlq"
    )
    """Where events go that can never be processed. Default: {KAFKA_TOPIC}.dlq"""
    kafka_username: Name | None = None
    """The user name, where Kafka wants a login (SASL)."""
    kafka_password: Secret | None = None
    """Its password; or KAFKA_PASSWORD_FILE names a file that holds it."""
    kafka_sasl_mechanism: Annotated[Mechanism | None, Upper] = None
    """PLAIN (with a user name the default), SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI."""
    kafka_ca_file: ExistingFile | None = None
    """Certificates to trust in Kafka's TLS, as a PEM file; without it, the system's."""
    kafka_options: KafkaOptions = Field(default_factory=dict)
    """More librdkafka properties as JSON, for example {"fetch.wait.max.ms": 50}."""

    embed_provider: Annotated[Literal["ollama", "openai"], Lower] = "ollama"
    """Who computes the vectors: ollama or openai."""
    embed_url: EmbedUrls = "http://ollama:11434/api/embeddings"
    """Where Ollama is; several servers with commas share the work."""
    embed_model: Name = "nomic-embed-text"
    """Ollama's model; its vectors must have EMBED_DIMENSIONS numbers."""
    embed_dimensions: Annotated[int, Field(ge=1, le=16384)] = 768
    """How many numbers a vector has."""
    embed_api_key: Secret | None = None
    """Sent as Bearer token to EMBED_URL, for a proxy; or EMBED_API_KEY_FILE."""
    embed_concurrency: Annotated[int, Field(ge=1, le=256)] | None = None
    """Requests to each embedder at the same time, at most; 2 where none is given, 4 with OpenAI.
    More where one address stands for several servers."""
    embed_prefix: str = ""
    """Put before each page, for example "search_document: ". After a change, backfill."""
    embed_query_prefix: str = ""
    """Put before each question of `gibsey-embedder search`, for example "search_query: "."""
    embed_lowercase: Annotated[Literal["auto", "on", "off"], Lower] = "auto"
    """Lower-case pages first: auto does it where the model loses capitals, on always, off never."""
    long_pages: Annotated[Literal["mean", "truncate", "refuse"], Lower] = "mean"
    """Pages beyond the model's context: mean of their parts, truncate, or refuse (dead letter)."""
    embed_fallback: Annotated[Literal["none", "openai"], Lower] = "none"
    """Who embeds while Ollama is away: none (wait) or openai, whose vectors are to be replayed."""
    embed_fallback_after: Annotated[float, Field(ge=0)] = 30.0
    """Seconds that every Ollama has failed before the fallback takes over."""
    openai_api_key: Secret | None = None
    """OpenAI's key; or OPENAI_API_KEY_FILE."""
    openai_url: OpenAIUrl = "https://api.openai.com/v1"
    """Where the OpenAI API is, for a compatible server or a proxy."""
    openai_model: Name = "text-embedding-3-small"
    """OpenAI's model; it is asked for EMBED_DIMENSIONS numbers."""
    cache_pages: Annotated[int, Field(ge=0, le=10_000_000)] = 2048
    """How many vectors are kept in memory by their text, so that a repeated text costs nothing.
    Each takes 9.5 KB; memory grows until the cache is full."""

    window_pages: Annotated[int, Field(ge=1, le=2048)] = 32
    """Pages embedded in one request, at most."""
    window_chars: Annotated[int, Field(ge=1)] = 100_000
    """Characters embedded in one request, at most; one longer page goes alone."""
    window_ms: Annotated[float, Field(ge=0, le=60_000)] = 0.0
    """Milliseconds that a page waits for company; 0: never, full windows come with the load."""

    stargate_url: StargateUrl = "http://stargate:8080"
    """Where Stargate's REST API v2 is (Stargate's own port for it is 8082)."""
    stargate_auth_token: Secret | None = None
    """The token for Stargate; or STARGATE_AUTH_TOKEN_FILE; or the three below."""
    stargate_username: Name | None = None
    """The user name with which tokens are fetched and renewed."""
    stargate_password: Secret | None = None
    """Its password; or STARGATE_PASSWORD_FILE."""
    stargate_auth_url: AuthUrl | None = None
    """Where tokens are fetched, for example http://stargate:8081."""
    stargate_keyspace: Identifier = "gibsey"
    """The keyspace of the tables."""
    stargate_table: Identifier = "page_vectors"
    """The table of the vectors."""
    stargate_pages_table: Identifier = "pages"
    """The table of the pages themselves, for `gibsey-embedder audit` and `backfill`."""
    stargate_model_column: Identifier | None = None
    """A text column of the table that says which model made the vector; none: not written."""
    stargate_bulk: Annotated[Literal["rest", "graphql", "custom"], Lower] = "rest"
    """How rows are written: rest (one a request), graphql (many), custom (STARGATE_BULK_URL)."""
    stargate_bulk_rows: Annotated[int, Field(ge=1, le=100)] = 100
    """Rows in one request, at most, with graphql and custom."""
    stargate_bulk_url: Url | None = None
    """With custom: takes PUT [{"page_id", "vector"}, ...]; 2xx means all are stored."""
    stargate_graphql_url: BaseUrl = Field(
        default_factory=lambda given: f"{given.get('stargate_url', '')}/graphql"
    )
    """Where GraphQL is, without the keyspace. Default: {STARGATE_URL}/graphql"""
    stargate_concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    """Requests to Stargate at the same time, at most."""

    rag_refresh_url: Url = "http://rag_service:8001/refresh"
    """Told of each page's new vector."""
    rag_auth_token: Secret | None = None
    """Sent as Bearer token to it; or RAG_AUTH_TOKEN_FILE."""
    rag_timeout: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Seconds it may take to answer."""
    rag_concurrency: Annotated[int, Field(ge=1, le=1024)] = 32
    """Requests to it at the same time, at most."""
    http_ca_file: ExistingFile | None = None
    """Certificates to trust in HTTPS, as a PEM file; without it, the system's."""

    on_delete: Annotated[Literal["ignore", "delete"], Lower] = "ignore"
    """What a deleted page does to its vector: ignore keeps it, delete removes it."""
    recovery_dir: Name = "./recovery"
    """Where `gibsey-embedder run` keeps the recovery store."""
    recovery_partitions: Annotated[int, Field(ge=1, le=1024)] = 4
    """Files of a new store, shared out among the workers; they cannot be changed later."""
    snapshot_seconds: Annotated[int, Field(ge=1, le=3600)] = 5
    """Seconds between two snapshots: up to two of them are redone after a kill."""
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Worker threads of `gibsey-embedder run`."""
    status_host: Host = "127.0.0.1"
    """The address that the status port listens on."""
    status_port: Annotated[int, Field(ge=0, le=65535)] = 6066
    """The port of the status page, /metrics, /healthz and /readyz; 0: off."""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = "info"
    """How much is logged: debug, info, warning or error."""
    log_format: Annotated[Literal["console", "json"], Lower] = "console"
    """console for people, json for collectors."""

    @property
    def brokers(self) -> str:
        """Every broker as `host:port`, with commas: librdkafka's `bootstrap.servers`."""
        return ",".join(values.parse_brokers(self.kafka_broker)[0])

    @property
    def kafka_tls(self) -> bool:
        """Whether the brokers speak TLS."""
        return values.parse_brokers(self.kafka_broker)[1]

    @property
    def sasl_mechanism(self) -> str | None:
        """The SASL mechanism to use, or None for no login."""
        return self.kafka_sasl_mechanism or ("PLAIN" if self.kafka_username else None)

    @property
    def embed_endpoints(self) -> tuple[str, ...]:
        """Each Ollama server's root, such as `http://ollama:11434`."""
        return values.parse_embed_urls(self.embed_url)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the variable of every setting, in order."""
        return tuple(field.upper() for field in cls.model_fields)

    @classmethod
    def unknown_names(cls) -> list[tuple[str, str]]:
        """Find variables that look misspelt: the name given, and the nearest that exists."""
        known = {*cls.names(), *(f"{secret.upper()}_FILE" for secret in SECRETS)}
        given = {*sources.environment_of(cls), *DotEnvSettingsSource(cls).env_vars}
        return sources.misspelt({name.upper() for name in given}, known)

    def redacted(self) -> dict[str, str]:
        """Return every setting as it may be shown, by variable; empty where none is given."""
        return {field.upper(): self._shown(field) for field in type(self).model_fields}

    def secret_values(self) -> tuple[str, ...]:
        """Return the secrets themselves, for the log to strike them out."""
        given = (getattr(self, field) for field in SECRETS)
        options = self.kafka_options.items()
        hidden = [str(v) for k, v in options if values.redact_option(k, v) == MASK]
        fields = (field for field in type(self).model_fields if field.endswith("_url"))
        inside = [urlsplit(url).password for field in fields for url in self._urls_in(field)]
        plain = (secret.get_secret_value() for secret in given if secret)
        return tuple(filter(None, (*plain, *hidden, *inside)))

    def _urls_in(self, field: str) -> list[str]:
        value: str = getattr(self, field) or ""
        return value.split(",") if field == "embed_url" else [value]

    def _shown(self, field: str) -> str:
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
    def _report_all_faults(cls, data: Any, handler: Any) -> Settings:
        """Run the fields' checks and those between them, and raise what both found."""
        found = quoted_problems(data, cls.model_fields)
        settings = None
        try:
            settings = handler(data)
        except ValidationError as error:
            found += _of_others(field_problems(error, cls.model_fields), found)
        found += _of_others(cross_problems(data, cls.model_fields), found)
        if found:
            slips = [
                (given, f"is no setting; meant is {meant}?") for given, meant in cls.unknown_names()
            ]
            raise SettingsError(
                [*sorted(found, key=lambda fault: cls.names().index(fault[0])), *slips]
            )
        assert isinstance(settings, cls)  # noqa: S101 - without faults the handler has returned it
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
        """Put secrets from files before plain variables, and the environment before `.env`."""
        del file_secret_settings
        environment = sources.environment_of(settings_cls)
        dotenv = DotEnvSettingsSource(settings_cls).env_vars
        files = sources.SecretFiles(settings_cls, SECRETS, environment, dotenv)
        return init_settings, files, env_settings, dotenv_settings


def _of_others(faults: list[SettingProblem], known: list[SettingProblem]) -> list[SettingProblem]:
    """The faults of settings that have none yet."""
    names = {name for name, _ in known}
    return [fault for fault in faults if fault[0] not in names]


def load() -> Settings:
    """Read the settings from the environment and `.env`.

    Raises:
        SettingsError: With all faults at once; its text is made for the terminal.
    """
    try:
        return Settings()
    except (OSError, UnicodeDecodeError) as error:
        fault = f"cannot be read ({error}); mend or remove it"
        raise SettingsError([(".env", fault)]) from None
