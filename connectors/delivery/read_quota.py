"""How much a process of a cluster reads in one epoch."""

from __future__ import annotations

PAGES_PER_EPOCH = 10_000
BYTES_PER_EPOCH = 64 * 1024 * 1024


class ReadQuota:
    """Bounds what the slots of one process read between two snapshots.

    In a cluster a page may be open in another process, of whose tracker this one knows nothing; and
    Bytewax lets a source read without bound inside an epoch. Each slot is one worker's own, so no
    lock is needed.

    Args:
        pages: Records an epoch.
        size_bytes: Their bytes.
    """

    def __init__(self, pages: int = PAGES_PER_EPOCH, size_bytes: int = BYTES_PER_EPOCH) -> None:
        self._pages = pages
        self._bytes = size_bytes
        self._spent: dict[int, tuple[int, int]] = {}

    def spend(self, slot: int, pages: int, size_bytes: int) -> None:
        """Note what a slot has read."""
        before = self._spent.get(slot, (0, 0))
        self._spent[slot] = (before[0] + pages, before[1] + size_bytes)

    def epoch_ended(self, slot: int) -> None:
        """Note that a slot's snapshot was taken."""
        self._spent.pop(slot, None)

    def is_spent(self) -> bool:
        """Whether no more may be read in this epoch."""
        spent = list(self._spent.values())
        return (
            sum(pages for pages, _ in spent) >= self._pages
            or sum(size for _, size in spent) >= self._bytes
        )
