"""Pages a second against workers, processes and embedders, where the embedders are the limit."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bench.launch import LAUNCHES
from bench.reading import Measurement, Step
from bench.rig import EMBEDDER_SLOWEST, Rig
from bench.scope import Scope
from bench.slowest import EPOCH_S, START_S, embedder
from bench.steady import Part, work_off

EMBEDDERS = 1, 2, 4, 8
ONE = embedder(EMBEDDER_SLOWEST.request_s, EMBEDDER_SLOWEST.text_s)


def steps(scope: Scope) -> list[Step]:
    """Each number of embedders with each way to start."""
    if not scope.scaling:
        return []
    return [
        Step("scaling", name(number, launch), START_S + 7, partial(_measure, scope, number, launch))
        for number in EMBEDDERS
        for launch in LAUNCHES
    ]


def limit(embedders: int) -> float:
    """Pages a second of so many embedders with full windows."""
    return embedders * ONE.pages_per_s


def name(embedders: int, launch: str) -> str:
    """Of the figure."""
    plural = "s" if embedders > 1 else ""
    return f"{embedders} embedder{plural}, {launch}"


def _measure(scope: Scope, embedders: int, launch: str) -> Iterable[Measurement]:
    first = scope.warm_up_s * limit(embedders)
    last = first + EPOCH_S * limit(embedders)
    with Rig(EMBEDDER_SLOWEST, scope.kafka, embedders) as rig:
        part = Part(first, last, round(last + first / 2))
        steady = work_off(rig, LAUNCHES[launch](), part)
    yield Measurement(
        name(embedders, launch),
        f"pages/s of {limit(embedders):.0f}",
        steady.pages_per_s,
        around=steady.around,
    )
