"""What was last applied to each page: the memory behind "newest wins" and "unchanged"."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from dataflow.steps.changes import PACKED_BYTES, Version

PAGES_PER_BUCKET = 4096
"""The pages a bucket remembers; 256 KB of snapshot, and about 1 MB of memory, when full. A late
event of a page that was not touched within its bucket's last 4,096 pages is taken for new."""

FINGERPRINT_BYTES = 16
_KEY_BYTES = 12
_NO_TEXT = bytes(FINGERPRINT_BYTES)
BY_FALLBACK = b"\xff" * FINGERPRINT_BYTES
"""In a fingerprint's place: the page's vector is the fallback's, so no text counts as unchanged."""
_ENTRY_BYTES = _KEY_BYTES + PACKED_BYTES + FINGERPRINT_BYTES


@dataclass(slots=True)
class PageVersion:
    """The newest change of a page that went to the outputs.

    Attributes:
        version: When it was made.
        fingerprint: Of its text and of how texts are embedded; None after a delete, and
            `BY_FALLBACK` where the fallback embedded it.
    """

    version: Version
    fingerprint: bytes | None


class PageVersions:
    """The latest applied change of each page of one bucket, the longest untouched dropped first.

    Pages are kept by a digest of their id, so that the memory is bounded whatever the ids are.

    Args:
        packed: What `pack` returned, to go on from there.
        pages: How many pages it remembers.
        other_space: Told by how many the pages with a vector of the fallback become more.
    """

    def __init__(
        self,
        packed: bytes = b"",
        pages: int = PAGES_PER_BUCKET,
        other_space: Callable[[int], object] = lambda _: None,
    ) -> None:
        self._other_space = other_space
        # several at a time: a dict passes over all deleted entries to find its first one
        self._drops = max(1, pages // 64)
        self._limit = pages + self._drops - 1
        self._entries: dict[bytes, bytes] = {
            packed[at : at + _KEY_BYTES]: packed[at + _KEY_BYTES : at + _ENTRY_BYTES]
            for at in range(0, len(packed), _ENTRY_BYTES)
        }
        other_space(sum(map(_is_by_fallback, self._entries.values())))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, page_id: str) -> PageVersion | None:
        """What was last applied to a page, if that is remembered."""
        entry = self._entries.get(_key(page_id))
        if entry is None:
            return None
        fingerprint = entry[PACKED_BYTES:]
        return PageVersion(
            Version.unpack(entry[:PACKED_BYTES]), None if fingerprint == _NO_TEXT else fingerprint
        )

    def put(self, page_id: str, version: Version, fingerprint: bytes | None) -> None:
        """Remember a change as the page's newest."""
        key = _key(page_id)
        gone = self._entries.pop(key, b"")  # so that it counts as touched last
        entry = self._entries[key] = version.pack() + (fingerprint or _NO_TEXT)
        more = _is_by_fallback(entry) - _is_by_fallback(gone)
        if len(self._entries) > self._limit:
            oldest = list(islice(self._entries, self._drops))
            more -= sum(_is_by_fallback(self._entries.pop(key)) for key in oldest)
        if more:
            self._other_space(more)

    def pack(self) -> bytes:
        """All of it as bytes, 60 a page."""
        return b"".join(part for entry in self._entries.items() for part in entry)


def _is_by_fallback(entry: bytes) -> bool:
    return entry.endswith(BY_FALLBACK)


def _key(page_id: str) -> bytes:
    return hashlib.blake2b(page_id.encode(), digest_size=_KEY_BYTES).digest()
