"""Decides whether the process is alive and whether it is ready, with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Gauge

from connectors.observability.liveness import STUCK_AFTER_S
from connectors.observability.stalls import Stall
from gibsey_embedder.status.view import StatusView


@dataclass(frozen=True, slots=True)
class Health:
    """A response of `/healthz` or `/readyz`.

    Attributes:
        ok: Whether the status is 200.
        status: One word for scripts.
        reason: One sentence for people.
    """

    ok: bool
    status: str
    reason: str


def describe_stall(view: StatusView, stall: Stall) -> str:
    """Return which service the stream waits for, and why."""
    return f"waiting for {view.service(stall.service).title}: {stall.reason}"


def liveness(view: StatusView) -> Health:
    """Return the response of `/healthz`: the process makes progress, or waits for a named service.

    A worker blocks while a service is unavailable, so during a stall it may make no progress.
    """
    stalls = view.stalls.current()
    if stalls:
        stall = stalls[0]
        remedy = f"; {stall.remedy}" if stall.remedy else ""
        return Health(True, "waiting", describe_stall(view, stall) + remedy)
    silent_s = view.liveness.longest_silence_s()
    if silent_s > STUCK_AFTER_S:
        reason = f"a worker has made no progress for {silent_s:.0f} s and waits for no service"
        return Health(False, "stuck", reason)
    if not view.liveness.workers:
        return Health(True, "starting", "no worker reads yet")
    return Health(True, "alive", "the workers make progress")


def readiness(view: StatusView) -> Health:
    """Return the response of `/readyz`: the stream would process a page that changes now."""
    if view.stopping():
        return Health(False, "stopping", "the process is stopping")
    alive = liveness(view)
    if not alive.ok or alive.status == "waiting":
        return Health(False, alive.status, alive.reason)
    missing = _missing_assignment(view)
    if missing:
        return Health(False, "starting", missing)
    unanswered = [view.service(name).title for name in view.unanswered()]
    if unanswered:
        return Health(False, "starting", f"no response yet from {', '.join(unanswered)}")
    return Health(True, "ready", "partitions are assigned and every service has responded")


def register_metrics(view: StatusView) -> None:
    """Add both results to the metrics; Prometheus gets their state at the time of its request."""
    registry = view.metrics.registry
    alive = Gauge("gibsey_alive", "1 while /healthz returns 200.", registry=registry)
    alive.set_function(lambda: liveness(view).ok)
    ready = Gauge("gibsey_ready", "1 while /readyz returns 200.", registry=registry)
    ready.set_function(lambda: readiness(view).ok)


def _missing_assignment(view: StatusView) -> str:
    kafka = view.kafka_status()
    if kafka.get("partitions"):
        return ""
    topic = kafka.get("topic", "the topic")
    if not kafka.get("topic_partitions"):
        return f"Kafka has not returned the partitions of {topic} yet"
    if view.launch.processes > 1:  # with more processes than partitions, some never have one
        return ""
    return f"no partition of {topic} is assigned yet"
