"""Opens the status port, which runs in the stream's process.

This is the only module of the stream that imports `gibsey_embedder`.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from importlib.metadata import version

from connectors.core.services import Service
from connectors.embedders.batching.batcher import Batcher
from connectors.embedders.service import SERVICE as EMBEDDER
from connectors.kafka.source import SourceContext
from dataflow.graph import StreamParts
from dataflow.startup.launch import Launch
from dataflow.startup.process import Process
from gibsey_embedder.status.server import StatusServer
from gibsey_embedder.status.view import KafkaStatus, LaunchInfo, OutputView, StatusView


def open_status_port(
    process: Process,
    parts: StreamParts,
    context: SourceContext,
    batcher: Batcher,
    services: Sequence[Service],
    model: str,
) -> None:
    """Start to serve the status port, in the background.

    Args:
        process: The process.
        parts: The graph's parts.
        context: The source's context.
        batcher: The batcher.
        services: Every service that the stream talks to.
        model: The name of the model in use.
    """
    settings = process.settings
    unreached = _connect_to_services(
        process, {output.service.name: output.address for output in parts.outputs}
    )
    view = StatusView(
        settings_redacted=settings.redacted(),
        services=services,
        outputs=[OutputView(o.service, o.write_queue, o.slots) for o in parts.outputs],
        metrics=process.metrics,
        stalls=process.stalls,
        tracker=process.tracker,
        liveness=process.liveness,
        batcher=batcher,
        kafka_status=lambda: _kafka_status(context),
        version=version("gibsey-embedder"),
        model=model,
        started_at=time.time(),
        launch=_launch_info(process.launch),
        recent_events=process.recent_events,
        unanswered=lambda: [*_silent_embedder(batcher), *unreached],
        stopping=process.shutdown.stopping.is_set,
    )
    port = settings.status_port + process.launch.status_port_offset
    StatusServer(process.event_loop, settings.status_host, port, view).start()


def _connect_to_services(process: Process, urls: dict[str, str]) -> Collection[str]:
    """Connect to each service in the background, for `/readyz`.

    Returns:
        The services that have not accepted a connection yet, at any time.
    """
    unreached = dict(urls)

    async def connect(service: str, url: str) -> None:
        await process.http.wait_until_reachable(url)
        del unreached[service]

    for service, url in urls.items():
        process.event_loop.call(
            lambda service=service, url=url: process.event_loop.spawn(connect(service, url))
        )
    return unreached.keys()


def _silent_embedder(batcher: Batcher) -> list[str]:
    return [] if batcher.rules or batcher.fallback_status else [EMBEDDER.name]


def _kafka_status(context: SourceContext) -> KafkaStatus:
    assigned = dict(context.assigned)
    threads = sorted(set(assigned.values()))
    status = KafkaStatus(
        topic=context.config.topic,
        partitions=sorted(assigned),
        workers={p: threads.index(thread) for p, thread in assigned.items()},
    )
    if context.monitor.partitions:
        status["topic_partitions"] = context.monitor.partitions
    return status


def _launch_info(launch: Launch) -> LaunchInfo:
    return LaunchInfo(
        launch.workers,
        launch.process_id,
        launch.process_count,
        str(launch.recovery_dir) if launch.recovery_dir else None,
    )
