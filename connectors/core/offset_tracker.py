"""Which records are open: read, but not yet in every output, skipped or dead-lettered.

The tracker of a process feeds back-pressure (the source stops at its limits), the low watermark
that is committed to the consumer group, lag and freshness. In one process a record is open from
the source to its last output. In a cluster it may settle in another process than the one that
read it, so there each hop is a life of its own: `handed_over` closes it here, `received` opens it
there, and nothing is committed.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from connectors.core.records import Record


@dataclass(slots=True)
class _Open:
    size_bytes: int
    outputs: int = 1


@dataclass(slots=True)
class _Partition:
    entries: dict[int, _Open] = field(default_factory=dict)
    heap: list[int] = field(default_factory=list)  # offsets, smallest first; settled ones linger
    next_offset: int | None = None  # the source's position

    def forget_settled(self) -> None:
        """Drop settled offsets from the heap's top, which is the low watermark then."""
        while self.heap and self.heap[0] not in self.entries:
            heapq.heappop(self.heap)


class OffsetTracker:
    """The open records of one process; all methods may be called from any thread.

    Args:
        shared: Whether other processes share the work (a cluster).
    """

    def __init__(self, *, shared: bool = False) -> None:
        self.shared = shared
        self._lock = threading.Lock()
        self._partitions: dict[int, _Partition] = {}
        self._pages = 0
        self._bytes = 0

    def opened(self, records: Iterable[Record], outputs: int = 1) -> None:
        """Open records; those that are open already stay as they are."""
        with self._lock:
            for record in records:
                if self._found(record) is None:
                    self._open(record, outputs)

    def resumed(self, records: Iterable[Record]) -> None:
        """Open records that an output brings from its snapshot; each output brings its own."""
        with self._lock:
            for record in records:
                if (entry := self._found(record)) is None:
                    self._open(record, 1)
                else:
                    entry.outputs += 1

    def _found(self, record: Record) -> _Open | None:
        partition = self._partitions.get(record.partition)
        return partition.entries.get(record.offset) if partition else None

    def _open(self, record: Record, outputs: int) -> None:
        partition = self._partitions.setdefault(record.partition, _Partition())
        size = record.size_bytes
        partition.entries[record.offset] = _Open(size, outputs)
        heapq.heappush(partition.heap, record.offset)
        self._pages += 1
        self._bytes += size

    def expect(self, record: Record, outputs: int) -> None:
        """Say how many outputs must acknowledge a record before it is settled.

        In a cluster the outputs may be in another process, whose `received` says it there.
        """
        if self.shared:
            return
        with self._lock:
            if (entry := self._found(record)) is not None:
                entry.outputs = outputs

    def settled(self, record: Record) -> bool:
        """Acknowledge one output of a record; whether that was its last."""
        with self._lock:
            partition = self._partitions.get(record.partition)
            entry = partition.entries.get(record.offset) if partition else None
            if partition is None or entry is None:
                return False
            entry.outputs -= 1
            if entry.outputs > 0:
                return False
            del partition.entries[record.offset]
            self._pages -= 1
            self._bytes -= entry.size_bytes
            partition.forget_settled()
            return True

    def handed_over(self, records: Iterable[Record]) -> None:
        """Close records that leave for a step which may run in another process."""
        if self.shared:
            for record in records:
                self.settled(record)

    def received(self, records: Iterable[Record], outputs: int = 1) -> None:
        """Open records that come from a step which may have run in another process."""
        if self.shared:
            self.opened(records, outputs)

    def read_up_to(self, partition: int, next_offset: int) -> None:
        """Note the source's position: the offset that it reads next."""
        with self._lock:
            self._partitions.setdefault(partition, _Partition()).next_offset = next_offset

    @property
    def open_pages(self) -> int:
        """Records that are open in this process."""
        return self._pages

    @property
    def open_bytes(self) -> int:
        """Their keys' and values' bytes."""
        return self._bytes

    def open_in(self, partition: int) -> int:
        """Open records of one Kafka partition in this process."""
        with self._lock:
            found = self._partitions.get(partition)
            return len(found.entries) if found else 0

    def open_partitions(self) -> set[int]:
        """The Kafka partitions of which records are open in this process."""
        with self._lock:
            return {number for number, found in self._partitions.items() if found.entries}

    def low_watermarks(self) -> dict[int, int]:
        """Per partition the offset below which everything is settled, as a group commits it."""
        with self._lock:
            marks = (
                (n, p.heap[0] if p.heap else p.next_offset) for n, p in self._partitions.items()
            )
            return {n: mark for n, mark in marks if mark is not None}
