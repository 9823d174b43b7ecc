"""Back-pressure: how many records the source may read now."""

from __future__ import annotations

import threading
from collections.abc import Callable

from connectors.core.offset_tracker import OffsetTracker

MAX_OPEN_PAGES = 2048
"""Most open records of one process: at 1,000 pages a second, two seconds of work."""
MAX_OPEN_BYTES = 32 * 1024 * 1024

READ_RECORDS = 1024
READ_BYTES = 1024 * 1024
"""Most records and bytes of one read, by which a slot can exceed the limits above. Each read wakes
all workers and all buckets: reads of 256 records cost 1 % more CPU with one worker, and 4 % with
four (`make bench ARGS="--only free"`)."""

EPOCH_RECORDS = 10_000
EPOCH_BYTES = 64 * 1024 * 1024
"""Most records and bytes that one process of a cluster reads in an epoch."""

MAX_WAITING_PAGES = 2 * MAX_OPEN_PAGES
"""Most pages that wait for the embedder when an epoch of a cluster ends: those that this process
reads itself, and as many from its peers."""

POLL_S = 0.05


class Backpressure:
    """Decides how many records the slots of one process may read.

    - A process reads nothing while too many of its records are open.
    - In a cluster a page may be open in another process, and this one does not know of it. So a
      process reads only its share until the epoch ends: Bytewax itself sets no limit to what a
      source reads in an epoch.
    - In a cluster a process keeps the epoch open while too many pages wait for its embedder. No
      process reads on before all have ended the epoch, so the slowest embedder sets the throughput.

    Full write queues hold reading back too: `WriteQueue.put` blocks the worker, and the records
    stay open meanwhile.

    Args:
        tracker: The open records of the process.
        waiting_pages: Returns how many pages wait for the embedder.
        stopping: Set when the process stops; ends `hold_epoch`.
        max_open_pages: Open records at which reading stops.
        max_open_bytes: Bytes of open records at which reading stops.
        epoch_records: Records that a process of a cluster reads in an epoch.
        epoch_bytes: Bytes that a process of a cluster reads in an epoch.
    """

    def __init__(
        self,
        tracker: OffsetTracker,
        waiting_pages: Callable[[], int],
        stopping: threading.Event,
        *,
        max_open_pages: int = MAX_OPEN_PAGES,
        max_open_bytes: int = MAX_OPEN_BYTES,
        epoch_records: int = EPOCH_RECORDS,
        epoch_bytes: int = EPOCH_BYTES,
    ) -> None:
        self._tracker = tracker
        self._waiting_pages = waiting_pages
        self._stopping = stopping
        self._max_open_pages = max_open_pages
        self._max_open_bytes = max_open_bytes
        self._epoch_records = epoch_records
        self._epoch_bytes = epoch_bytes
        self._read: dict[int, tuple[int, int]] = {}  # in this epoch, by slot: each has one writer

    def records_to_read(self) -> int:
        """Return how many records a slot may read now; 0 while the process has enough."""
        tracker = self._tracker
        if tracker.open_pages >= self._max_open_pages:
            return 0
        if tracker.open_bytes >= self._max_open_bytes:
            return 0
        if tracker.shared and self._has_read_its_share():
            return 0
        return READ_RECORDS

    def records_read(self, slot: int, records: int, size_bytes: int) -> None:
        """Count what a slot has read in this epoch."""
        before = self._read.get(slot, (0, 0))
        self._read[slot] = (before[0] + records, before[1] + size_bytes)

    def epoch_ended(self, slot: int) -> None:
        """Start a slot's next epoch; its snapshot was taken."""
        self._read.pop(slot, None)

    def hold_epoch(self) -> None:
        """Keep an epoch of a cluster open while too many pages wait; blocks a worker's thread.

        Half of the pages that a process reads may belong to a peer with a slower embedder, where
        they would pile up (5,800 of 30,000 pages with an embedder that was ten times slower).
        """
        if not self._tracker.shared:
            return
        while self._waiting_pages() > MAX_WAITING_PAGES and not self._stopping.wait(POLL_S):
            pass

    def _has_read_its_share(self) -> bool:
        read = list(self._read.values())
        return (
            sum(records for records, _ in read) >= self._epoch_records
            or sum(size for _, size in read) >= self._epoch_bytes
        )
