"""What the stream stands on, opened from the settings: clients, outputs, context."""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from importlib.metadata import version

import stamina
from pydantic import SecretStr

from connectors.core.records import DeadLetter, PageVector
from connectors.delivery.acknowledgement import Acknowledgement, DeadLetterWriter
from connectors.delivery.backpressure import Backpressure
from connectors.delivery.write_queue import WriteQueue
from connectors.embedders.base import EmbedderClient
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.batching.batcher import Batcher
from connectors.embedders.cache import VectorCache
from connectors.embedders.endpoint import CONCURRENCY
from connectors.embedders.endpoint_pool import EndpointPool
from connectors.embedders.failover import Failover
from connectors.embedders.ollama.client import OllamaClient
from connectors.embedders.openai.client import CONCURRENCY as OPENAI_CONCURRENCY
from connectors.embedders.openai.client import OpenAIClient
from connectors.embedders.text_rules import TextRules
from connectors.http.client import HttpClient
from connectors.kafka.config import KafkaConfig
from connectors.kafka.dead_letters.producer import DeadLetterProducer
from connectors.kafka.metadata_monitor import MetadataMonitor
from connectors.kafka.offset_committer import OffsetCommitter
from connectors.kafka.source import PagesSource, SourceContext
from connectors.kafka.topic_validation import TopicValidation
from connectors.observability import logs
from connectors.observability.recent_events import RecentEvents
from connectors.rag.notifier import SERVICE as RAG
from connectors.rag.notifier import RagNotifier
from connectors.runtime import crash_report
from connectors.runtime.tuning.epoch_schedule import EpochSchedule
from connectors.stores.stargate.auth import FetchedToken, FixedToken, TokenSource
from connectors.stores.stargate.bulk import StargateCustom, StargateGraphql
from connectors.stores.stargate.errors import StargateTable
from connectors.stores.stargate.rest import SERVICE as STARGATE
from connectors.stores.stargate.rest import StargateRest, StargateSession
from dataflow.config.settings import Settings
from dataflow.events.decoder import decode
from dataflow.graph import StreamParts
from dataflow.startup.launch import Launch
from dataflow.startup.process import Process
from dataflow.startup.status_port import open_status_port
from dataflow.steps.window import WindowStep

_OPENAI = "OPENAI_MODEL and OPENAI_URL"

VectorWriter = StargateRest | StargateGraphql | StargateCustom


def open_all(settings: Settings, launch: Launch, recent_events: RecentEvents) -> StreamParts:
    """Make everything that the graph is built of; no service is asked for anything yet."""
    process = Process(settings, launch, recent_events)
    config = kafka_config(settings)
    monitor = MetadataMonitor(config, process.stalls, process.shutdown, launch.worker_count)
    dead_letters = DeadLetterProducer(
        config,
        settings.dead_letter_topic,
        errors=monitor.errors,
        stalls=process.stalls,
        metrics=process.metrics,
        shutdown=process.shutdown,
    )
    delivery = Acknowledgement(process.tracker, dead_letters, process.metrics)
    store = _stargate(process)
    stargate = WriteQueue(store, _page, delivery.row_done, process.event_loop)
    rag = WriteQueue(_rag(process), _page, delivery.notification_done, process.event_loop)
    batcher = _batcher(process, {STARGATE: stargate, RAG: rag})
    backpressure = _backpressure(process, batcher)
    context = _source_context(process, config, monitor, backpressure)
    parts = StreamParts(
        source=PagesSource(context, TopicValidation(decode)),
        window=_window(process, batcher, backpressure),
        stargate=stargate,
        rag=rag,
        dead_letters=WriteQueue(
            DeadLetterWriter(dead_letters), _origin, delivery.dead_letter_done, process.event_loop
        ),
        tracker=process.tracker,
        metrics=process.metrics,
        shutdown=process.shutdown,
    )
    _start_background(process, context, batcher, store)
    model = text_rules(settings).model
    process.metrics.build_info.labels(version("gibsey-embedder"), model).set(1)
    if settings.status_port:
        open_status_port(process, parts, context, batcher, model)
    return parts


def kafka_config(settings: Settings) -> KafkaConfig:
    """How Kafka is reached, as the settings say."""
    return KafkaConfig(
        settings.brokers,
        topic=settings.kafka_topic,
        group=settings.kafka_group,
        tls=settings.kafka_tls,
        ca_file=_path(settings.kafka_ca_file),
        username=settings.kafka_username,
        password=_plain(settings.kafka_password),
        sasl_mechanism=settings.sasl_mechanism,
        options=settings.kafka_options,
    )


def embedding_clients(settings: Settings, http: HttpClient) -> list[EmbedderClient]:
    """The embedder's endpoints: one for each URL, or OpenAI's one."""
    if settings.embed_provider == "openai":
        return [_openai_client(settings, http)]
    dimensions, key = settings.embed_dimensions, _plain(settings.embed_api_key)
    return [
        OllamaClient(http, url, settings.embed_model, dimensions, key)
        for url in settings.embed_endpoints
    ]


def _openai_client(settings: Settings, http: HttpClient) -> OpenAIClient:
    return OpenAIClient(
        http,
        settings.openai_url,
        _plain(settings.openai_api_key),
        settings.openai_model,
        settings.embed_dimensions,
    )


def text_rules(settings: Settings) -> TextRules:
    """How texts are prepared, as far as the settings decide it."""
    is_openai = settings.embed_provider == "openai"
    return TextRules(
        model=settings.openai_model if is_openai else settings.embed_model,
        prefix=settings.embed_prefix,
        lowercase=settings.embed_lowercase == "on",
        long_pages=settings.long_pages,
    )


def stargate_tokens(settings: Settings, http: HttpClient) -> TokenSource:
    """Where Stargate's tokens come from."""
    username, password = settings.stargate_username, _plain(settings.stargate_password)
    if username and password and settings.stargate_auth_url:
        return FetchedToken(http, username, password, settings.stargate_auth_url)
    return FixedToken(_plain(settings.stargate_auth_token) or "")


def _source_context(
    process: Process, config: KafkaConfig, monitor: MetadataMonitor, backpressure: Backpressure
) -> SourceContext:
    return SourceContext(
        config,
        monitor,
        process.tracker,
        backpressure,
        process.liveness,
        process.metrics,
        process.shutdown,
        assigned={},
        epoch=EpochSchedule(process.launch.snapshot_seconds),
        slack=process.slack,
    )


def _window(process: Process, batcher: Batcher, backpressure: Backpressure) -> WindowStep:
    return WindowStep(
        batcher,
        process.tracker,
        process.metrics,
        process.shutdown,
        delete_rows=process.settings.on_delete == "delete",
        backpressure=backpressure,
        slack=process.slack,
    )


def _backpressure(process: Process, batcher: Batcher) -> Backpressure:
    def waiting_pages() -> int:
        return min(batcher.queued_texts, process.tracker.open_pages)  # a long page is many texts

    return Backpressure(process.tracker, waiting_pages, process.shutdown.stopping)


def _batcher(process: Process, outputs: Mapping[str, WriteQueue[PageVector]]) -> Batcher:
    settings = process.settings
    primary = _primary(process)

    def outputs_busy() -> bool:
        """Of one that is away the end cannot be told: the embedder goes on meanwhile."""
        return any(o.has_backlog and not process.stalls.has(name) for name, o in outputs.items())

    return Batcher(
        primary,
        _fallback(process, primary) if settings.embed_fallback == "openai" else None,
        limits=WindowLimits(
            settings.window_pages, settings.window_chars, settings.window_ms / 1000
        ),
        event_loop=process.event_loop,
        stalls=process.stalls,
        metrics=process.metrics,
        outputs_busy=outputs_busy,
    )


def _primary(process: Process) -> EndpointPool:
    settings = process.settings
    is_openai = settings.embed_provider == "openai"
    return EndpointPool(
        embedding_clients(settings, process.http),
        text_rules(settings),
        cache=VectorCache(settings.cache_pages, process.metrics),
        detect_lowercase=settings.embed_lowercase == "auto" and not is_openai,
        chosen_by=_OPENAI if is_openai else "EMBED_MODEL and EMBED_URL",
        concurrency=settings.embed_concurrency
        or (OPENAI_CONCURRENCY if is_openai else CONCURRENCY),
    )


def _fallback(process: Process, primary: EndpointPool) -> Failover:
    """OpenAI in Ollama's place; prefix and lower-casing are for Ollama's model alone."""
    settings = process.settings
    provider = EndpointPool(
        [_openai_client(settings, process.http)],
        TextRules(settings.openai_model, long_pages=settings.long_pages),
        cache=VectorCache(settings.cache_pages, process.metrics),
        chosen_by=_OPENAI,
        is_fallback=True,
        first_index=len(primary.endpoints),
        concurrency=settings.embed_concurrency or OPENAI_CONCURRENCY,
    )
    return Failover(provider, primary, settings.embed_fallback_after, process.metrics)


def _stargate(process: Process) -> VectorWriter:
    settings = process.settings
    session = StargateSession(
        process.http, stargate_tokens(settings, process.http), process.metrics
    )
    table = StargateTable(
        settings.stargate_url,
        settings.stargate_keyspace,
        settings.stargate_table,
        settings.stargate_model_column,
    )
    rest = StargateRest(
        session, process.stalls, process.metrics, table, settings.stargate_concurrency
    )
    rows = settings.stargate_bulk_rows
    if settings.stargate_bulk == "graphql":
        return StargateGraphql(rest, settings.stargate_graphql_url, rows)
    if settings.stargate_bulk == "custom":
        return StargateCustom(rest, settings.stargate_bulk_url or "", rows)
    return rest


def _rag(process: Process) -> RagNotifier:
    settings = process.settings
    return RagNotifier(
        process.http,
        process.stalls,
        process.metrics,
        settings.rag_refresh_url,
        _plain(settings.rag_auth_token),
        settings.rag_timeout,
        settings.rag_concurrency,
    )


def _page(row: PageVector) -> str:
    return row.page_id


def _origin(letter: DeadLetter) -> str:
    return letter.record.origin


def _start_background(
    process: Process, context: SourceContext, batcher: Batcher, store: VectorWriter
) -> None:
    """Start what runs beside the graph, and say how the process ends."""
    stamina.instrumentation.set_on_retry_hooks([])  # `Stalls` says it, once a minute
    shutdown = process.shutdown
    shutdown.install()
    crash_report.install()
    shutdown.count_open_pages(lambda: process.tracker.open_pages)
    shutdown.on_stop(batcher.halt)
    shutdown.at_end(store.flush)
    if not process.launch.is_cluster:
        stored = context.stored if process.launch.recovery_dir else None
        errors = context.monitor.errors
        OffsetCommitter(context.config, context.tracker, errors, shutdown, stored).start()
    atexit.register(shutdown.end_process if process.launch.is_program else shutdown.end)
    batcher.start()
    _log_start(process)


def _log_start(process: Process) -> None:
    settings, launch = process.settings, process.launch
    shown = settings.redacted()
    embedder = "OPENAI_URL" if settings.embed_provider == "openai" else "EMBED_URL"
    log = logs.get("stream")
    log.info(
        "starting",
        version=version("gibsey-embedder"),
        bytewax=version("bytewax"),
        workers=launch.workers,
        processes=launch.process_count,
        recovery=str(launch.recovery_dir or "none"),
    )
    log.info("from", kafka=shown["KAFKA_BROKER"], topic=settings.kafka_topic)
    log.info("through", embedder=shown[embedder], model=text_rules(settings).model)
    log.info("to", stargate=shown["STARGATE_URL"], rag=shown["RAG_REFRESH_URL"])
    if settings.embed_fallback == "openai":
        log.info(
            "else through",
            embedder=shown["OPENAI_URL"],
            model=settings.openai_model,
            after_s=settings.embed_fallback_after,
        )
    for given, meant in settings.unknown_names():
        log.warning("unknown setting", name=given, meant=meant)


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _path(path: object) -> str | None:
    return str(path) if path else None
