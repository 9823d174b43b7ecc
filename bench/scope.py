"""How much is measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.checkout import THIS, Checkout


@dataclass(frozen=True, slots=True)
class Scope:
    """How much is measured, and over which broker.

    Attributes:
        name: Of its files under `bench/results/`.
        kafka: Address of a real Kafka; None is librdkafka's mock, in the bench's own process.
        checkout: The revision of the stream that is measured.
        runs: Runs of a measure; those that are not named are run once.
        limit_s: Seconds after which figures that have a value get no further one.
        epochs: Snapshot intervals (5 s each) that a slowest service is watched for.
        warm_up_s: Seconds of a slowest service's capacity that do not count at the beginning.
        free_pages: Backlog before services that take no time.
        edits: Live edits on an idle stream.
        loaded_s: Seconds of live edits under load.
        settle_s: Seconds before an idle stream is watched; from five on, a slot looks more rarely.
        idle_s: Seconds that it is watched.
        memory_pages: The two backlogs that are compared.
        peer_pages: Backlog for the other ways to do it.
        delays: Whether services of few and of many milliseconds are the slowest, too.
        scaling: Whether several embedders are measured.
    """

    name: str = "core"
    kafka: str | None = None
    checkout: Checkout = THIS
    runs: Mapping[str, int] = field(default_factory=dict)
    limit_s: float = math.inf
    epochs: float = 2
    warm_up_s: float = 1.0
    free_pages: int = 16_000
    edits: int = 100
    loaded_s: float = 10.0
    settle_s: float = 12.0
    idle_s: float = 10.0
    memory_pages: tuple[int, int] = (10_000, 40_000)
    peer_pages: int = 1500
    delays: bool = False
    scaling: bool = False

    @property
    def left_out(self) -> list[str]:
        """What this scope does not measure, and what would."""
        left = [] if self.scaling else ["scaling and other service times: `make bench-long`"]
        if self.kafka is None:
            left.append(
                "a real Kafka: TEST_KAFKA_BROKER=host:port make bench-long. The mock broker holds "
                "5 MB a partition: its larger backlog was sent in portions as it was worked off"
            )
        return left


CORE = Scope(runs={"free": 4, "edits": 2, "start": 3}, limit_s=570)
AGAINST = Scope(name="against", free_pages=20_000, settle_s=8.0)
"""For a comparison of two revisions: as much as seven rounds of both can do in 25 minutes."""
LONG = Scope(
    name="long",
    runs=dict.fromkeys(("slowest", "cluster", "scaling", "idle", "peers", "loaded", "floor"), 3)
    | {"free": 5, "edits": 3, "start": 5},
    epochs=3,
    edits=300,
    loaded_s=30.0,
    idle_s=30.0,
    memory_pages=(10_000, 200_000),
    peer_pages=3000,
    delays=True,
    scaling=True,
)
TINY = Scope(
    name="tiny",
    epochs=0.2,
    warm_up_s=0.1,
    free_pages=3000,
    edits=3,
    loaded_s=0.5,
    settle_s=0,
    idle_s=0.3,
    memory_pages=(300, 600),
    peer_pages=320,
    delays=True,
    scaling=True,
)
"""Only shows that every measure runs."""
