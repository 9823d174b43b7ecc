"""A Bytewax flow that does nothing, to measure the cost of Bytewax itself."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from typing_extensions import override


class _Nothing(StatelessSourcePartition[None]):
    @override
    def next_batch(self) -> Iterable[None]:
        return []

    @override
    def next_awake(self) -> datetime | None:
        return datetime.now(timezone.utc) + timedelta(seconds=1)


class _NoSource(DynamicSource[None]):
    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Nothing:
        return _Nothing()


class _Nowhere(StatelessSinkPartition[None]):
    @override
    def write_batch(self, items: list[None]) -> None:
        pass


class _NoSink(DynamicSink[None]):
    @override
    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Nowhere:
        return _Nowhere()


def flow() -> Dataflow:
    """Return a flow with a source that is always empty, and a sink."""
    flow = Dataflow("empty")
    op.output("out", op.input("in", flow, _NoSource()), _NoSink())
    return flow
