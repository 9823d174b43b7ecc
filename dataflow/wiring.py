"""Builds the stream's components from the settings: clients, outputs, source, batcher."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from importlib.metadata import version

import stamina

from connectors.core.records import DeadLetter, PageVector
from connectors.delivery.acknowledgement import Acknowledgement, DeadLetterWriter
from connectors.delivery.backpressure import Backpressure
from connectors.delivery.outputs import Output, OutputCounts
from connectors.delivery.write_queue import WriteQueue
from connectors.embedders.batching.batch_queue import WindowLimits
from connectors.embedders.batching.batcher import Batcher
from connectors.embedders.cache import VectorCache
from connectors.embedders.endpoint import CONCURRENCY
from connectors.embedders.endpoint_pool import EndpointPool
from connectors.embedders.failover import Failover
from connectors.embedders.openai.client import CONCURRENCY as OPENAI_CONCURRENCY
from connectors.embedders.text_rules import TextRules
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.kafka.config import KafkaConfig
from connectors.kafka.dead_letters.producer import DeadLetterProducer
from connectors.kafka.metadata_monitor import MetadataMonitor
from connectors.kafka.offset_committer import OffsetCommitter
from connectors.kafka.source import PagesSource, SourceContext
from connectors.kafka.topic_validation import TopicValidation
from connectors.observability import logs
from connectors.observability.metrics import Metrics
from connectors.observability.recent_events import RecentEvents
from connectors.rag.notifier import RagNotifier
from connectors.rag.service import SERVICE as RAG
from connectors.runtime import crash_report
from connectors.runtime.tuning.epoch_schedule import EpochSchedule
from connectors.stores.base import VectorStore, VectorWriter
from dataflow.clients import (
    embedding_clients,
    kafka_config,
    openai_client,
    secret_text,
    services_with,
    text_rules,
    vector_store,
)
from dataflow.config.settings import Settings
from dataflow.events.decoder import decode
from dataflow.graph import RAG_STEP, STORE_STEP, StreamParts
from dataflow.startup.launch import Launch
from dataflow.startup.process import Process
from dataflow.startup.status_port import open_status_port
from dataflow.steps.window import WindowStep

_OPENAI = "OPENAI_MODEL and OPENAI_URL"


def open_all(settings: Settings, launch: Launch, recent_events: RecentEvents) -> StreamParts:
    """Build everything that the graph needs; contacts no service."""
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
    """Return the outputs of a page; no other place lists them."""
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
        """Return whether an available output has enough rows; a stalled output does not count."""
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
    """Return the fallback: OpenAI, without the prefix and lower-casing of Ollama's model."""
    settings = process.settings
    pool = EndpointPool(
        [openai_client(settings, process.http)],
        TextRules(settings.openai_model, long_pages=settings.long_pages),
        cache=VectorCache(settings.cache_pages, process.metrics),
        chosen_by=_OPENAI,
        is_fallback=True,
        first_index=len(primary.endpoints),
        concurrency=settings.embed_concurrency or OPENAI_CONCURRENCY,
    )
    return Failover(pool, primary, settings.embed_fallback_after, process.metrics)


def _rag(process: Process) -> RagNotifier:
    settings = process.settings
    return RagNotifier(
        process.http,
        process.stalls,
        process.metrics,
        settings.rag_refresh_url,
        secret_text(settings.rag_auth_token),
        settings.rag_timeout,
        settings.rag_concurrency,
    )


def _page(row: PageVector) -> str:
    return row.page_id


def _origin(dead_letter: DeadLetter) -> str:
    return dead_letter.record.origin


def _start_background(
    process: Process, context: SourceContext, batcher: Batcher, writer: VectorWriter
) -> None:
    """Start what runs beside the graph, and register what runs when the process ends."""
    stamina.instrumentation.set_on_retry_hooks([])  # `Stalls` reports retries, once a minute
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
