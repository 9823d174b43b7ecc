"""The outputs as sinks of Bytewax, each in front of a write queue."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Generic, TypeGuard, TypeVar

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from typing_extensions import override

from connectors.core.buckets import BUCKET_KEYS
from connectors.core.records import DeadLetter, FlushMarker, Outcome, PageVector, Record
from connectors.core.snapshot_layout import SnapshotLayout
from connectors.delivery.write_queue import WriteQueue
from connectors.runtime.shutdown import Shutdown

Row = TypeVar("Row")

STATE_VERSION = 1
LAYOUT = SnapshotLayout(STATE_VERSION, "unsettled rows")

VectorState = tuple[int, list[tuple[Any, ...]]]
"""Version, and the unsettled rows. All buckets together hold at most as many rows as a write queue,
each with a vector (up to 16 KB) and its event."""


class _Partition(StatefulSinkPartition[Sequence[Outcome], Any], Generic[Row]):
    """One bucket of an output."""

    def __init__(self, sink: QueueSink[Row], bucket: str) -> None:
        self._sink = sink
        self._bucket = bucket

    @override
    def write_batch(self, values: list[Sequence[Outcome]]) -> None:
        with self._sink.shutdown.guard(self._sink.name):
            takes = self._sink.takes
            rows = [row for group in values for row in group if takes(row)]
            if rows:
                self._sink.received(rows)
                self._sink.write_queue.put(self._bucket, rows)


class _VectorPartition(_Partition[PageVector]):
    """A bucket whose snapshot holds its unsettled rows."""

    def __init__(self, sink: VectorSink, bucket: str, state: VectorState | None) -> None:
        super().__init__(sink, bucket)
        self._settles = False
        rows = _restored(state)
        sink.resumed(rows)
        sink.write_queue.put(bucket, rows, wait=False)

    @override
    def write_batch(self, values: list[Sequence[Outcome]]) -> None:
        super().write_batch(values)
        for item in chain.from_iterable(values):  # another marker follows any other item
            self._settles = isinstance(item, FlushMarker) and (item.settles or self._settles)

    @override
    def snapshot(self) -> VectorState:
        with self._sink.shutdown.guard(self._sink.name):
            if self._settles:
                self._settles = False
                self._sink.write_queue.wait_settled(self._bucket)
            rows = self._sink.write_queue.unsettled(self._bucket)
            return STATE_VERSION, [_plain(row) for row in rows]


class _DeadLetterPartition(_Partition[DeadLetter]):
    """A bucket whose snapshot waits until all its dead letters are confirmed, and holds nothing."""

    @override
    def snapshot(self) -> None:
        with self._sink.shutdown.guard(self._sink.name):
            self._sink.write_queue.wait_settled(self._bucket)


class QueueSink(FixedPartitionedSink[Sequence[Outcome], Any], Generic[Row]):
    """Adds the rows of one output to its write queue.

    Item type: `(bucket, outcomes)`. Unit of parallelism: the bucket; building the flow needs no
    service. Delivery: at least once, rows of one page in order.

    Args:
        name: The name of the step, for messages.
        write_queue: The queue, shared by all partitions of the process.
        takes: Whether an outcome is a row of this output.
        received: Called with rows before they are added.
        shutdown: Ends the process on an error.
    """

    def __init__(
        self,
        name: str,
        write_queue: WriteQueue[Row],
        takes: Callable[[Outcome], TypeGuard[Row]],
        received: Callable[[Sequence[Row]], None],
        shutdown: Shutdown,
    ) -> None:
        self.name = name
        self.write_queue = write_queue
        self.takes = takes
        self.received = received
        self.shutdown = shutdown

    @override
    def list_parts(self) -> list[str]:
        return list(BUCKET_KEYS)

    @override
    def part_fn(self, item_key: str) -> int:
        return BUCKET_KEYS.index(item_key)

    @override
    @abstractmethod
    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> _Partition[Row]: ...


class VectorSink(QueueSink[PageVector]):
    """Vectors for one service.

    An epoch ends while rows are in flight: its snapshot holds them, and a restart sends them again.
    Waiting for them would leave the service idle at the end of each epoch, for the time of a
    request. The sink waits only in an epoch that ends with a `FlushMarker`.

    Args:
        name: The name of the step, for messages.
        write_queue: The queue, shared by all partitions of the process.
        takes: Whether an outcome is a row of this output.
        received: Called with rows before they are added.
        resumed: Called with the rows of a snapshot before they are added.
        shutdown: Ends the process on an error.
    """

    def __init__(
        self,
        name: str,
        write_queue: WriteQueue[PageVector],
        takes: Callable[[Outcome], TypeGuard[PageVector]],
        received: Callable[[Sequence[PageVector]], None],
        resumed: Callable[[Sequence[PageVector]], None],
        shutdown: Shutdown,
    ) -> None:
        super().__init__(name, write_queue, takes, received, shutdown)
        self.resumed = resumed

    @override
    def build_part(
        self, step_id: str, for_part: str, resume_state: VectorState | None
    ) -> _VectorPartition:
        with self.shutdown.guard(self.name):
            return _VectorPartition(self, for_part, resume_state)


class DeadLetterSink(QueueSink[DeadLetter]):
    """Dead letters: an epoch ends only when the broker has confirmed those written in it."""

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _DeadLetterPartition:
        return _DeadLetterPartition(self, for_part)


def _plain(row: PageVector) -> tuple[Any, ...]:
    """Return a row as plain values, which later versions can read."""
    record = row.record.plain()
    return row.page_id, row.vector, record, row.written_us, row.model, row.other_space


def _restored(state: VectorState | None) -> list[PageVector]:
    if state is None:
        return []
    LAYOUT.check(state)
    _, rows = state
    return [
        PageVector(page_id, vector, Record(*record), *more)
        for page_id, vector, record, *more in rows
    ]
