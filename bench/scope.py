"""The scope of a measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.checkout import THIS, Checkout


@dataclass(frozen=True, slots=True)
class Scope:
    """The sizes of a measurement, and its broker.

    Attributes:
        name: Name of the files in `bench/results/`.
        kafka: Address of a real Kafka; None means librdkafka's mock in the benchmark's process.
        checkout: The revision to measure.
        runs: Number of rounds by measure; default: 1.
        limit_s: Seconds after which only figures without a value are measured.
        epochs: Number of snapshot intervals (5 s each) for which the slowest service is measured.
        warm_up_s: Seconds of the slowest service's capacity that do not count at the beginning.
        free_pages: Backlog for services that respond at once.
        edits: Number of live edits on an idle stream.
        loaded_s: Seconds of live edits under load.
        settle_s: Seconds before an idle stream is measured; after five, a slot polls less often.
        idle_s: Seconds for which an idle stream is measured.
        memory_pages: The two backlogs of the memory figures.
        peer_pages: Backlog for the comparison with other programs.
        delays: Whether to measure very fast and very slow services too.
        scaling: Whether to measure several embedders.
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
        """The measures that this scope omits, and the commands that include them."""
        left = [] if self.scaling else ["scaling and other service times: `make bench-long`"]
        if self.kafka is None:
            left.append(
                "a real Kafka: TEST_KAFKA_BROKER=host:port make bench-long. The mock broker holds "
                "5 MB per partition, so the larger backlog was sent in portions"
            )
        return left


CORE = Scope(runs={"free": 4, "edits": 2, "start": 3}, limit_s=570)
AGAINST = Scope(name="against", free_pages=20_000, settle_s=8.0)
"""For a comparison of two revisions: seven rounds take 25 minutes."""
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
"""Only checks that every measure runs."""
