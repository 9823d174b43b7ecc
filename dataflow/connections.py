"""What the stream stands on, opened from the settings: clients, ledger, loop, status port."""

from __future__ import annotations

import atexit
import time
from dataclasses import dataclass, field
from importlib.metadata import version

import stamina
from pydantic import SecretStr

from connectors import last_words, logs
from connectors.batcher import Batcher, WindowLimits
from connectors.dead_letters import DeadLetters
from connectors.delivery import DeadLetterWriter, Delivery
from connectors.embedding import EmbeddingClient, TextRules, VectorCache
from connectors.heartbeat import Heartbeat
from connectors.http import Http
from connectors.io_loop import IoLoop
from connectors.kafka import KafkaAccess
from connectors.kafka_source import PagesSource, Reading
from connectors.ledger import Ledger
from connectors.metrics import Metrics
from connectors.offsets import OffsetCommitter
from connectors.ollama import OllamaClient
from connectors.openai import OpenAIClient
from connectors.outbox import Outbox, Writer
from connectors.probation import Probation
from connectors.rag import RagNotifier
from connectors.reach import Reach
from connectors.recent import Recent
from connectors.records import DeadLetter, PageVector
from connectors.shutdown import Shutdown
from connectors.stalls import Stalls
from connectors.stargate import StargateRest, StargateSession
from connectors.stargate_answers import StargateTable
from connectors.stargate_bulk import StargateCustom, StargateGraphql
from connectors.tokens import FetchedToken, FixedToken, Tokens
from connectors.topic_watch import TopicWatch
from dataflow.decode import can_be_read
from dataflow.graph import Parts
from dataflow.launch import Launch
from dataflow.settings import Settings
from dataflow.window import WindowStep

VectorWriter = StargateRest | StargateGraphql | StargateCustom


@dataclass(slots=True)
class Process:
    """What a process has one of, whatever it talks to.

    Attributes:
        settings: The settings in force.
        started: How the process was started.
        metrics: What is counted.
        recent: The latest warnings and errors, for the status page.
        shutdown: Ends the process.
        stalls: What it waits for.
        io: Its event loop.
        http: Its HTTP client.
        ledger: Its open records.
        heartbeat: Whether its workers turn.
    """

    settings: Settings
    started: Launch
    recent: Recent
    metrics: Metrics = field(default_factory=Metrics)
    shutdown: Shutdown = field(default_factory=Shutdown)
    heartbeat: Heartbeat = field(default_factory=Heartbeat)
    stalls: Stalls = field(init=False)
    io: IoLoop = field(init=False)
    http: Http = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.stalls = Stalls(self.metrics)
        self.io = IoLoop(lambda error: self.shutdown.fatal(error, "I/O loop"))
        self.http = Http(self.settings.http_ca_file)
        self.ledger = Ledger(shared=self.started.is_cluster)


def open_all(settings: Settings, started: Launch, recent: Recent) -> Parts:
    """Make everything that the graph is built of; no service is asked for anything yet."""
    process = Process(settings, started, recent)
    access = kafka_access(settings)
    watch = TopicWatch(access, process.stalls, process.shutdown)
    dead_letters = DeadLetters(
        access,
        settings.dead_letter_topic,
        faults=watch.faults,
        stalls=process.stalls,
        metrics=process.metrics,
        shutdown=process.shutdown,
    )
    delivery = Delivery(process.ledger, dead_letters, process.metrics)
    batcher = _batcher(process)
    store = _stargate(process)
    reading = _reading(process, access, watch)
    parts = Parts(
        source=PagesSource(reading),
        window=WindowStep(
            batcher,
            process.ledger,
            process.metrics,
            process.shutdown,
            delete_rows=settings.on_delete == "delete",
        ),
        stargate=_vectors(process, store, delivery),
        rag=_vectors(process, _rag(process), delivery),
        dead_letters=Outbox(
            DeadLetterWriter(dead_letters), _origin, delivery.letter_done, process.io
        ),
        ledger=process.ledger,
        metrics=process.metrics,
        shutdown=process.shutdown,
    )
    _set_going(process, access, watch, batcher, store)
    _open_status_port(process, parts, reading, batcher)
    return parts


def kafka_access(settings: Settings) -> KafkaAccess:
    """How Kafka is reached, as the settings say."""
    return KafkaAccess(
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


def embedding_clients(settings: Settings, http: Http) -> list[EmbeddingClient]:
    """The embedder's endpoints: one for each URL, or OpenAI's one."""
    dimensions = settings.embed_dimensions
    if settings.embed_provider == "openai":
        key = _plain(settings.openai_api_key)
        url = settings.openai_url
        return [OpenAIClient(http, url, key, settings.openai_model, dimensions)]
    key = _plain(settings.embed_api_key)
    return [
        OllamaClient(http, url, settings.embed_model, dimensions, key)
        for url in settings.embed_endpoints
    ]


def text_rules(settings: Settings) -> TextRules:
    """How texts are prepared, as far as the settings decide it."""
    is_openai = settings.embed_provider == "openai"
    return TextRules(
        model=settings.openai_model if is_openai else settings.embed_model,
        prefix=settings.embed_prefix,
        lowercase=settings.embed_lowercase == "on",
        long_pages=settings.long_pages,
    )


def stargate_tokens(settings: Settings, http: Http) -> Tokens:
    """Where Stargate's tokens come from."""
    username, password = settings.stargate_username, _plain(settings.stargate_password)
    if username and password and settings.stargate_auth_url:
        return FetchedToken(http, username, password, settings.stargate_auth_url)
    return FixedToken(_plain(settings.stargate_auth_token) or "")


def _reading(process: Process, access: KafkaAccess, watch: TopicWatch) -> Reading:
    return Reading(
        access,
        watch,
        process.ledger,
        Probation(can_be_read),
        process.heartbeat,
        process.metrics,
        process.shutdown,
        assigned={},
        epoch_s=process.started.snapshot_seconds,
    )


def _batcher(process: Process) -> Batcher:
    settings = process.settings
    return Batcher(
        embedding_clients(settings, process.http),
        text_rules(settings),
        detect_lowercase=settings.embed_lowercase == "auto",
        limits=WindowLimits(
            settings.window_pages, settings.window_chars, settings.window_ms / 1000
        ),
        cache=VectorCache(settings.cache_pages, process.metrics),
        io=process.io,
        stalls=process.stalls,
        metrics=process.metrics,
    )


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


def _vectors(
    process: Process, writer: Writer[PageVector], delivery: Delivery
) -> Outbox[PageVector]:
    return Outbox(writer, lambda row: row.page_id, delivery.vector_done, process.io)


def _origin(letter: DeadLetter) -> str:
    return letter.record.origin


def _set_going(
    process: Process, access: KafkaAccess, watch: TopicWatch, batcher: Batcher, store: VectorWriter
) -> None:
    """Start what runs beside the graph, and say how the process ends."""
    stamina.instrumentation.set_on_retry_hooks([])  # `Stalls` says it, once a minute
    shutdown = process.shutdown
    shutdown.install()
    last_words.install()
    shutdown.count_open_pages(lambda: process.ledger.open_pages)
    shutdown.on_stop(batcher.halt)
    shutdown.at_end(store.flush)
    if not process.started.is_cluster:
        OffsetCommitter(access, process.ledger, watch.faults, shutdown).start()
    atexit.register(shutdown.end_process if process.started.is_program else shutdown.end)
    batcher.start()
    _say_hello(process)


def _say_hello(process: Process) -> None:
    settings, started = process.settings, process.started
    shown = settings.masked()
    embedder = "OPENAI_URL" if settings.embed_provider == "openai" else "EMBED_URL"
    log = logs.get("stream")
    log.info(
        "starting",
        version=version("gibsey-embedder"),
        bytewax=version("bytewax"),
        workers=started.workers,
        processes=started.process_count,
        recovery=str(started.recovery_dir or "none"),
    )
    log.info("from", kafka=shown["KAFKA_BROKER"], topic=settings.kafka_topic)
    log.info("through", embedder=shown[embedder], model=text_rules(settings).model)
    log.info("to", stargate=shown["STARGATE_URL"], rag=shown["RAG_REFRESH_URL"])
    if settings.embed_fallback != "none":
        log.warning("EMBED_FALLBACK is not in this version yet: the stream waits for its embedder")
    for given, meant in settings.unknown_names():
        log.warning("unknown setting", name=given, meant=meant)


def _open_status_port(process: Process, parts: Parts, reading: Reading, batcher: Batcher) -> None:
    settings, started = process.settings, process.started
    model = text_rules(settings).model
    process.metrics.build_info.labels(version("gibsey-embedder"), model).set(1)
    if not settings.status_port:
        return
    # The one place where the stream knows of `ops`: the status port runs in its process.
    from ops.status import StatusServer
    from ops.status_view import KafkaStatus, LaunchInfo, StatusView

    reach = Reach(process.io, {"stargate": settings.stargate_url, "rag": settings.rag_refresh_url})
    reach.start()

    def unanswered() -> list[str]:
        return [*([] if batcher.rules else ["embedder"]), *reach.missing()]

    def kafka_status() -> KafkaStatus:
        assigned = dict(reading.assigned)
        threads = sorted(set(assigned.values()))
        status = KafkaStatus(
            topic=settings.kafka_topic,
            partitions=sorted(assigned),
            workers={p: threads.index(thread) for p, thread in assigned.items()},
        )
        if reading.watch.partitions:
            status["topic_partitions"] = reading.watch.partitions
        return status

    view = StatusView(
        settings_masked=settings.masked(),
        metrics=process.metrics,
        stalls=process.stalls,
        ledger=process.ledger,
        heartbeat=process.heartbeat,
        batcher=batcher,
        outboxes={
            "stargate": parts.stargate,
            "rag": parts.rag,
            "dead-letters": parts.dead_letters,
        },
        kafka_status=kafka_status,
        version=version("gibsey-embedder"),
        model=model,
        started_at=time.time(),
        launch=LaunchInfo(
            started.workers,
            started.process_id,
            started.process_count,
            str(started.recovery_dir) if started.recovery_dir else None,
        ),
        recent=process.recent,
        unanswered=unanswered,
        stopping=process.shutdown.stopping.is_set,
    )
    port = settings.status_port + started.status_port_offset
    StatusServer(process.io, settings.status_host, port, view).start()


def _plain(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _path(path: object) -> str | None:
    return str(path) if path else None
