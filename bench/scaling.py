"""Measures pages per second with several workers, processes and embedders."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bench.measurement import Measurement, Step
from bench.rig import EMBEDDER_SLOWEST, Rig
from bench.scope import Scope
from bench.slowest import EPOCH_S, START_S, embedder
from bench.starts import STARTS
from bench.steady import Part, work_off

EMBEDDERS = 1, 2, 4, 8
ONE = embedder(EMBEDDER_SLOWEST.request_s, EMBEDDER_SLOWEST.text_s)


def steps(scope: Scope) -> list[Step]:
    """Return the steps for each number of embedders with each way to start the stream."""
    if not scope.scaling:
        return []
    return [
        Step(
            "scaling",
            name(number, start_name),
            START_S + 7,
            partial(_measure, scope, number, start_name),
        )
        for number in EMBEDDERS
        for start_name in STARTS
    ]


def limit(embedders: int) -> float:
    """Return the pages per second of this number of embedders with full windows."""
    return embedders * ONE.pages_per_s


def name(embedders: int, start_name: str) -> str:
    """Return the name of the figure."""
    plural = "s" if embedders > 1 else ""
    return f"{embedders} embedder{plural}, {start_name}"


def _measure(scope: Scope, embedders: int, start_name: str) -> Iterable[Measurement]:
    first = scope.warm_up_s * limit(embedders)
    last = first + EPOCH_S * limit(embedders)
    with Rig(EMBEDDER_SLOWEST, scope.kafka, embedders) as rig:
        part = Part(first, last, round(last + first / 2))
        steady = work_off(rig, STARTS[start_name](), part)
    yield Measurement(
        name(embedders, start_name),
        f"pages/s of {limit(embedders):.0f}",
        steady.pages_per_s,
        utilisation=steady.utilisation,
    )
