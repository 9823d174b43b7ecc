"""The status port, opened from what the stream stands on.

The one place where the stream knows of `ops`: the status port runs in its process.
"""

from __future__ import annotations

import time
from importlib.metadata import version

from connectors.embedders.batching.batcher import Batcher
from connectors.http.connectivity import Reach
from connectors.kafka.source import Reading
from dataflow.graph import Parts
from dataflow.startup.launch import Launch
from dataflow.startup.process import Process
from gibsey_embedder.status.server import StatusServer
from gibsey_embedder.status.view import KafkaStatus, LaunchInfo, StatusView


def open_status_port(
    process: Process, parts: Parts, reading: Reading, batcher: Batcher, model: str
) -> None:
    """Begin to serve it, in the background.

    Args:
        process: Whose status it is.
        parts: The graph's parts.
        reading: What is read.
        batcher: What embeds.
        model: The name of the model in use.
    """
    settings = process.settings
    reach = Reach(process.io, {"stargate": settings.stargate_url, "rag": settings.rag_refresh_url})
    reach.start()
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
        kafka_status=lambda: _kafka_status(reading),
        version=version("gibsey-embedder"),
        model=model,
        started_at=time.time(),
        launch=_launch_info(process.started),
        recent=process.recent,
        unanswered=lambda: [*_silent_embedder(batcher), *reach.missing()],
        stopping=process.shutdown.stopping.is_set,
    )
    port = settings.status_port + process.started.status_port_offset
    StatusServer(process.io, settings.status_host, port, view).start()


def _silent_embedder(batcher: Batcher) -> list[str]:
    return [] if batcher.rules or batcher.standing_in else ["embedder"]


def _kafka_status(reading: Reading) -> KafkaStatus:
    assigned = dict(reading.assigned)
    threads = sorted(set(assigned.values()))
    status = KafkaStatus(
        topic=reading.access.topic,
        partitions=sorted(assigned),
        workers={p: threads.index(thread) for p, thread in assigned.items()},
    )
    if reading.watch.partitions:
        status["topic_partitions"] = reading.watch.partitions
    return status


def _launch_info(started: Launch) -> LaunchInfo:
    return LaunchInfo(
        started.workers,
        started.process_id,
        started.process_count,
        str(started.recovery_dir) if started.recovery_dir else None,
    )
