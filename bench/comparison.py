"""The stream beside other ways to do the same, each timed as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bench.launch import Start, workers
from bench.program import Program, peer, peer_flow
from bench.reading import Around, Measurement, Step, Target
from bench.rig import EMBEDDER_SLOWEST, Rig
from bench.scope import Scope
from bench.steady import work_off_whole

FASTER = Target(1, at_least=True)


def steps(scope: Scope) -> list[Step]:
    """All of them in one step: a factor wants both in the same minute."""
    seconds = 20 + scope.peer_pages / 50
    return [Step("peers", "other ways", seconds, partial(_measure, scope))]


def _measure(scope: Scope) -> Iterable[Measurement]:
    own, around = _work_off(scope, workers(1), scope.peer_pages)
    yield Measurement("as a whole, the stream", "pages/s", own, around=around)
    for name, start, share in OTHERS:
        other, around = _work_off(scope, start, scope.peer_pages // share)
        yield Measurement(f"as a whole, {name}", "pages/s", other, around=around)
        yield Measurement(f"the stream against {name}", "times", own / other, FASTER)


def _work_off(scope: Scope, start: Start, pages: int) -> tuple[float, Around]:
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
    ("asyncio by hand", _asyncio, 1),
)
"""Name, start, and by how much its backlog is smaller."""
