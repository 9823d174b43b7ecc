"""Whether the process is alive and whether it is ready, each with the reason in words."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Gauge

from connectors.observability.liveness import STUCK_AFTER_S
from connectors.observability.stalls import Stall
from gibsey_embedder.status.view import StatusView


@dataclass(frozen=True, slots=True)
class Health:
    """An answer to `/healthz` or `/readyz`.

    Attributes:
        ok: Whether it is a yes.
        status: One word for scripts.
        reason: One sentence for people.
    """

    ok: bool
    status: str
    reason: str


_NAMES = {
    "kafka": "Kafka",
    "topic": "the topic's events",
    "embedder": "the embedder",
    "stargate": "Stargate",
    "rag": "the RAG service",
    "dead-letters": "the dead-letter topic",
    "recovery": "the recovery store",
}


def named(service: str) -> str:
    """A service as people call it."""
    return _NAMES.get(service, service)


def describe_stall(stall: Stall) -> str:
    """What is waited for, and why."""
    return f"waiting for {named(stall.service)}: {stall.reason}"


def _with_remedy(stall: Stall) -> str:
    return describe_stall(stall) + (f"; {stall.remedy}" if stall.remedy else "")


def liveness(view: StatusView) -> Health:
    """Whether the process makes progress, or knows what it waits for.

    A worker blocks while a service does not answer, so its silence says nothing during a stall.
    """
    stalls = view.stalls.current()
    if stalls:
        return Health(True, "waiting", _with_remedy(stalls[0]))
    silent_s = view.liveness.longest_silence_s()
    if silent_s > STUCK_AFTER_S:
        return Health(
            False, "stuck", f"a worker has not turned for {silent_s:.0f} s and waits for no service"
        )
    if not view.liveness.workers:
        return Health(True, "starting", "no worker has begun to read yet")
    return Health(True, "alive", "the workers turn")


def readiness(view: StatusView) -> Health:
    """Whether pages that change now would go through now."""
    if view.stopping():
        return Health(False, "stopping", "a stop was asked for")
    alive = liveness(view)
    if not alive.ok or alive.status == "waiting":
        return Health(False, alive.status, alive.reason)
    missing = _not_assigned(view)
    if missing:
        return Health(False, "starting", missing)
    unanswered = view.unanswered()
    if unanswered:
        return Health(False, "starting", f"no answer yet from {', '.join(unanswered)}")
    return Health(True, "ready", "partitions are assigned and every service has answered")


def show_in_metrics(view: StatusView) -> None:
    """Give Prometheus what the two answers are, at the time it asks."""
    alive = Gauge("gibsey_alive", "1 as long as /healthz says 200.", registry=view.metrics.registry)
    alive.set_function(lambda: liveness(view).ok)
    ready = Gauge("gibsey_ready", "1 as long as /readyz says 200.", registry=view.metrics.registry)
    ready.set_function(lambda: readiness(view).ok)


def _not_assigned(view: StatusView) -> str:
    kafka = view.kafka_status()
    if kafka.get("partitions"):
        return ""
    topic = kafka.get("topic", "the topic")
    if not kafka.get("topic_partitions"):
        return f"Kafka has not told the partitions of {topic} yet"
    if view.launch.processes > 1:  # with more processes than partitions some have none, for good
        return ""
    return f"no partition of {topic} is assigned yet"
