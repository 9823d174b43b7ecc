"""The Bytewax face of an outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from typing_extensions import override

from connectors.outbox import Outbox
from connectors.records import BUCKET_KEYS
from connectors.shutdown import Shutdown

Row = TypeVar("Row")


class _Partition(StatefulSinkPartition[Row, None], Generic[Row]):
    def __init__(
        self,
        name: str,
        bucket: str,
        outbox: Outbox[Row],
        arrived: Callable[[Sequence[Row]], None],
        shutdown: Shutdown,
    ) -> None:
        self._name = name
        self._bucket = bucket
        self._outbox = outbox
        self._arrived = arrived
        self._shutdown = shutdown

    @override
    def write_batch(self, values: list[Row]) -> None:
        with self._shutdown.guard(self._name):
            self._arrived(values)
            self._outbox.put(self._bucket, values)

    @override
    def snapshot(self) -> None:
        """The barrier: Bytewax closes the epoch only after this returned."""
        with self._shutdown.guard(self._name):
            self._outbox.wait_settled(self._bucket)


class OutboxSink(FixedPartitionedSink[Row, None], Generic[Row]):
    """A sink for `(bucket, row)` items.

    Unit of parallelism: the bucket; the partitions are the buckets, so building the flow needs
    no service. Delivery: at least once, every row acknowledged (or dead-lettered) before the
    epoch in which it was written is closed; rows of one page in order.

    Args:
        name: The step's name, for messages.
        outbox: Where rows go; shared by all partitions of the process.
        arrived: Called with the rows before they are handed over.
        shutdown: Ends the process on an error.
    """

    def __init__(
        self,
        name: str,
        outbox: Outbox[Row],
        arrived: Callable[[Sequence[Row]], None],
        shutdown: Shutdown,
    ) -> None:
        self._name = name
        self._outbox = outbox
        self._arrived = arrived
        self._shutdown = shutdown

    @override
    def list_parts(self) -> list[str]:
        return list(BUCKET_KEYS)

    @override
    def part_fn(self, item_key: str) -> int:
        return BUCKET_KEYS.index(item_key)

    @override
    def build_part(self, step_id: str, for_part: str, resume_state: None) -> _Partition[Row]:
        return _Partition(self._name, for_part, self._outbox, self._arrived, self._shutdown)
