"""Compares the stream with simpler programs that do the same work."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bench.measurement import Measurement, Step, Target, Utilisation
from bench.program import Program, peer, peer_flow
from bench.rig import EMBEDDER_SLOWEST, Rig
from bench.scope import Scope
from bench.starts import Start, workers
from bench.steady import work_off_whole

FASTER = Target(1, at_least=True)


def steps(scope: Scope) -> list[Step]:
    """Return one step for all programs, because a ratio needs values of the same minute."""
    seconds = 20 + scope.peer_pages / 50
    return [Step("peers", "other programs", seconds, partial(_measure, scope))]


def _measure(scope: Scope) -> Iterable[Measurement]:
    own, utilisation = _work_off(scope, workers(1), scope.peer_pages)
    yield Measurement("as a whole, the stream", "pages/s", own, utilisation=utilisation)
    for name, start, share in OTHERS:
        other, utilisation = _work_off(scope, start, scope.peer_pages // share)
        yield Measurement(f"as a whole, {name}", "pages/s", other, utilisation=utilisation)
        yield Measurement(f"the stream against {name}", "times", own / other, FASTER)


def _work_off(scope: Scope, start: Start, pages: int) -> tuple[float, Utilisation]:
    with Rig(EMBEDDER_SLOWEST, scope.kafka) as rig:
        return work_off_whole(rig, start, pages)


def _one_by_one(rig: Rig) -> Program:
    return peer("one_by_one", rig.settings())


def _collect(rig: Rig) -> Program:
    return peer_flow("collect_flow", rig.settings())


def _asyncio(rig: Rig) -> Program:
    return peer("asyncio_loop", rig.settings())


OTHERS: tuple[tuple[str, Start, int], ...] = (
    ("one page at a time", _one_by_one, 20),
    ("collect, map, sink", _collect, 2),
    ("an asyncio loop", _asyncio, 1),
)
"""Name, start, and the divisor of the backlog."""
