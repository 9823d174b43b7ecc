"""The ways to start the stream."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bench.checkout import THIS, Checkout
from bench.program import Processes, Program, cluster, stream
from bench.rig import Rig

Start = Callable[[Rig], Program | Processes]


def workers(number: int, checkout: Checkout = THIS, **settings: str) -> Start:
    """Start one process with this number of workers."""
    return partial(_stream, number, checkout, settings)


def processes(number: int, checkout: Checkout = THIS, **settings: str) -> Start:
    """Start this number of processes with two workers each."""
    return partial(_cluster, number, checkout, settings)


STARTS: dict[str, Callable[..., Start]] = {
    "-w 1": partial(workers, 1),
    "-w 4": partial(workers, 4),
    "2 x 2": partial(processes, 2),
}


def _stream(workers: int, checkout: Checkout, settings: dict[str, str], rig: Rig) -> Program:
    return stream(rig.settings(**settings), workers=workers, checkout=checkout)


def _cluster(processes: int, checkout: Checkout, settings: dict[str, str], rig: Rig) -> Processes:
    whole = rig.settings(**settings)
    return cluster(whole, processes=processes, workers=2, checkout=checkout)
