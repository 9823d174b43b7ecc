"""Tracks the open records: read, but not yet accepted by all outputs, skipped or dead-lettered.

The open records determine the offset to commit (`low_watermarks`), back-pressure, lag and
freshness.

One process: the source opens a record (`open`), and the last output settles it (`settle`).

A cluster: a record may move to another process, whose tracker is another object. So the sending
process closes it (`hand_over`), the receiving process opens it (`receive`), and nothing is
committed. In one process these two methods do nothing.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from connectors.core.records import Record


@dataclass(slots=True)
class _OpenRecord:
    size_bytes: int
    outputs: int = 1  # that have not acknowledged it


@dataclass(slots=True)
class _Partition:
    records: dict[int, _OpenRecord] = field(default_factory=dict)  # by offset
    heap: list[int] = field(default_factory=list)  # offsets, smallest first, some settled already
    next_offset: int | None = None  # that the source reads

    def low_watermark(self) -> int | None:
        """Return the smallest open offset, or the source's position if nothing is open."""
        return self.heap[0] if self.heap else self.next_offset

    def drop_settled(self) -> None:
        """Remove settled offsets from the top of the heap."""
        while self.heap and self.heap[0] not in self.records:
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

    def open(self, records: Iterable[Record], outputs: int = 1) -> None:
        """Open records that the source read or that a snapshot holds; open ones stay as they are.

        Args:
            records: The records.
            outputs: How many outputs must acknowledge each.
        """
        with self._lock:
            for record in records:
                if self._find(record) is None:
                    self._add(record, outputs)

    def resume(self, records: Iterable[Record]) -> None:
        """Open records from an output's snapshot; each output that has a record adds itself."""
        with self._lock:
            for record in records:
                if (entry := self._find(record)) is None:
                    self._add(record, 1)
                else:
                    entry.outputs += 1

    def expect(self, record: Record, outputs: int) -> None:
        """Set how many outputs must acknowledge a record before it is settled.

        In a cluster the outputs may be in another process, and `receive` sets the number there.
        """
        if self.shared:
            return
        with self._lock:
            if (entry := self._find(record)) is not None:
                entry.outputs = outputs

    def settle(self, record: Record) -> bool:
        """Acknowledge one output of a record; return whether it was the last."""
        with self._lock:
            partition = self._partitions.get(record.partition)
            entry = partition.records.get(record.offset) if partition else None
            if partition is None or entry is None:
                return False
            entry.outputs -= 1
            if entry.outputs > 0:
                return False
            del partition.records[record.offset]
            self._pages -= 1
            self._bytes -= entry.size_bytes
            partition.drop_settled()
            return True

    def hand_over(self, records: Iterable[Record]) -> None:
        """In a cluster: close records that leave for a step which may run in another process."""
        if self.shared:
            for record in records:
                self.settle(record)

    def receive(self, records: Iterable[Record], outputs: int = 1) -> None:
        """In a cluster: open records from a step which may have run in another process."""
        if self.shared:
            self.open(records, outputs)

    def read_up_to(self, partition: int, next_offset: int) -> None:
        """Note the source's position in a partition: the offset that it reads next."""
        with self._lock:
            self._partitions.setdefault(partition, _Partition()).next_offset = next_offset

    def low_watermarks(self) -> dict[int, int]:
        """Return the offset to commit by partition: every record below it is settled."""
        with self._lock:
            marks = ((number, p.low_watermark()) for number, p in self._partitions.items())
            return {number: mark for number, mark in marks if mark is not None}

    @property
    def open_pages(self) -> int:
        """Records that are open in this process."""
        return self._pages

    @property
    def open_bytes(self) -> int:
        """Bytes of the keys and values of the open records."""
        return self._bytes

    def open_in(self, partition: int) -> int:
        """Return how many records of one Kafka partition are open in this process."""
        with self._lock:
            partition_state = self._partitions.get(partition)
            return len(partition_state.records) if partition_state else 0

    def open_partitions(self) -> set[int]:
        """Return the Kafka partitions that have open records in this process."""
        with self._lock:
            return {number for number, p in self._partitions.items() if p.records}

    def _find(self, record: Record) -> _OpenRecord | None:
        partition = self._partitions.get(record.partition)
        return partition.records.get(record.offset) if partition else None

    def _add(self, record: Record, outputs: int) -> None:
        partition = self._partitions.setdefault(record.partition, _Partition())
        size_bytes = record.size_bytes
        partition.records[record.offset] = _OpenRecord(size_bytes, outputs)
        heapq.heappush(partition.heap, record.offset)
        self._pages += 1
        self._bytes += size_bytes
