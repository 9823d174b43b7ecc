"""What the stream stands on, opened from the settings: clients, outputs, context."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from importlib.metadata import version

import stamina
from pydantic import SecretStr

from connectors.core.records import DeadLetter, PageVector
from connectors.core.services import Service
from connectors.delivery.acknowledgement import Acknowledgement, DeadLetterWriter
from connectors.delivery.backpressure import Backpressure
from connectors.delivery.outputs import Output, OutputCounts
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
from connectors.embedders.service import SERVICE as EMBEDDER
from connectors.embedders.text_rules import TextRules
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.kafka.config import KafkaConfig
from connectors.kafka.dead_letters.producer import DeadLetterProducer
from connectors.kafka.dead_letters.service import SERVICE as DEAD_LETTERS
from connectors.kafka.metadata_monitor import MetadataMonitor
from connectors.kafka.offset_committer import OffsetCommitter
from connectors.kafka.service import SERVICE as KAFKA
from connectors.kafka.source import PagesSource, SourceContext
from connectors.kafka.topic_validation import TopicValidation
from connectors.observability import logs
from connectors.observability.metrics import Metrics
from connectors.observability.recent_events import RecentEvents
from connectors.rag.notifier import RagNotifier
from connectors.rag.service import SERVICE as RAG
from connectors.runtime import crash_report
from connectors.runtime.tuning.epoch_schedule import EpochSchedule
from connectors.stores.base import Retry, VectorStore, VectorWriter, once
from connectors.stores.stargate.config import StargateConfig
from connectors.stores.stargate.service import SERVICE as STARGATE
from connectors.stores.stargate.store import StargateStore
from dataflow.config.settings import Settings
from dataflow.events.decoder import decode
from dataflow.graph import RAG_STEP, STORE_STEP, StreamParts
from dataflow.startup.launch import Launch
from dataflow.startup.process import Process
from dataflow.startup.status_port import open_status_port
from dataflow.steps.window import WindowStep

_OPENAI = "OPENAI_MODEL and OPENAI_URL"

STORES = (STARGATE,)
"""Every store that the program can write to."""


def open_all(settings: Settings, launch: Launch, recent_events: RecentEvents) -> StreamParts:
    """Make everything that the graph is built of; no service is asked for anything yet."""
    http = HttpClient(settings.http_ca_file)
    store = vector_store(settings, http)
    services = services_with(store.service)
    process = Process(settings, launch, recent_events, http, Metrics(services))
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
    writer = store.open_writer(process.stalls, process.metrics)
    outputs = _outputs(process, store, writer, delivery)
    batcher = _batcher(process, outputs)
    backpressure = _backpressure(process, batcher)
    context = _source_context(process, config, monitor, backpressure)
    parts = StreamParts(
        source=PagesSource(context, TopicValidation(decode)),
        window=_window(process, batcher, OutputCounts.of(outputs), backpressure),
        outputs=outputs,
        dead_letters=WriteQueue(
            DeadLetterWriter(dead_letters), _origin, delivery.dead_letter_done, process.event_loop
        ),
        tracker=process.tracker,
        metrics=process.metrics,
        shutdown=process.shutdown,
    )
    _start_background(process, context, batcher, writer)
    _log_start(process, store)
    model = text_rules(settings).model
    process.metrics.build_info.labels(version("gibsey-embedder"), model).set(1)
    if settings.status_port:
        open_status_port(process, parts, context, batcher, services, model)
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


def vector_store(settings: Settings, http: HttpClient, retry: Retry = once) -> VectorStore:
    """The store that the settings select; the only place that knows which stores there are.

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
        token=_plain(settings.stargate_auth_token) or "",
        username=settings.stargate_username,
        password=_plain(settings.stargate_password),
        auth_url=settings.stargate_auth_url,
        bulk=settings.stargate_bulk,
        bulk_rows=settings.stargate_bulk_rows,
        bulk_url=settings.stargate_bulk_url,
        graphql_url=settings.stargate_graphql_url,
        concurrency=settings.stargate_concurrency,
    )
    return StargateStore(config, http, retry)


def services_with(store: Service) -> tuple[Service, ...]:
    """Every service that a stream with this store talks to."""
    return (KAFKA, EMBEDDER, store, RAG, DEAD_LETTERS)


def dead_letter_reasons() -> list[str]:
    """Every reason that a dead letter can have, whatever the store is."""
    services = [service for store in STORES for service in services_with(store)]
    return list(dict.fromkeys(reason for service in services for reason in service.reasons))


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


def _outputs(
    process: Process, store: VectorStore, writer: VectorWriter, delivery: Acknowledgement
) -> tuple[Output, ...]:
    """The outputs of a page: the only place that states which there are."""
    settings, loop = process.settings, process.event_loop
    notifier = _rag(process)
    return (
        Output(
            STORE_STEP,
            store.service,
            WriteQueue(writer, _page, delivery.row_done, loop),
            slots=store.concurrency,
            address=store.address,
            takes_deletes=True,
        ),
        Output(
            RAG_STEP,
            RAG,
            WriteQueue(notifier, _page, delivery.notification_done, loop),
            slots=settings.rag_concurrency,
            address=address_of(settings.rag_refresh_url),
        ),
    )


def _window(
    process: Process, batcher: Batcher, output_counts: OutputCounts, backpressure: Backpressure
) -> WindowStep:
    return WindowStep(
        batcher,
        process.tracker,
        process.metrics,
        process.shutdown,
        output_counts,
        delete_rows=process.settings.on_delete == "delete",
        backpressure=backpressure,
        slack=process.slack,
    )


def _backpressure(process: Process, batcher: Batcher) -> Backpressure:
    def waiting_pages() -> int:
        return min(batcher.queued_texts, process.tracker.open_pages)  # a long page is many texts

    return Backpressure(process.tracker, waiting_pages, process.shutdown.stopping)


def _batcher(process: Process, outputs: Sequence[Output]) -> Batcher:
    settings = process.settings
    primary = _primary(process)

    def outputs_busy() -> bool:
        """Whether an available output has enough rows; the embedder does not wait for a stall."""
        return any(
            output.write_queue.has_backlog and not process.stalls.has(output.service.name)
            for output in outputs
        )

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
    process: Process, context: SourceContext, batcher: Batcher, writer: VectorWriter
) -> None:
    """Start what runs beside the graph, and say how the process ends."""
    stamina.instrumentation.set_on_retry_hooks([])  # `Stalls` says it, once a minute
    shutdown = process.shutdown
    shutdown.install()
    crash_report.install()
    shutdown.count_open_pages(lambda: process.tracker.open_pages)
    shutdown.on_stop(batcher.halt)
    shutdown.at_end(writer.flush)
    if not process.launch.is_cluster:
        stored = context.stored if process.launch.recovery_dir else None
        errors = context.monitor.errors
        OffsetCommitter(context.config, context.tracker, errors, shutdown, stored).start()
    atexit.register(shutdown.end_process if process.launch.is_program else shutdown.end)
    batcher.start()


def _log_start(process: Process, store: VectorStore) -> None:
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
    log.info("to", **{store.service.name: store.address}, rag=shown["RAG_REFRESH_URL"])
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
