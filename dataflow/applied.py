"""What was last applied to each page: the memory behind "newest wins" and "unchanged"."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from dataflow.changes import PACKED_BYTES, Version

PAGES_PER_BUCKET = 4096
"""The pages a bucket remembers; 256 KB of snapshot, and about 1 MB of memory, when full. A late
event of a page that was not touched within its bucket's last 4,096 pages is taken for new."""

FINGERPRINT_BYTES = 16
_KEY_BYTES = 12
_NO_TEXT = bytes(FINGERPRINT_BYTES)
REFUSED = b"\xff" * FINGERPRINT_BYTES
"""The fingerprint of a change that became a dead letter: no text is the same as that one."""
_ENTRY_BYTES = _KEY_BYTES + PACKED_BYTES + FINGERPRINT_BYTES


@dataclass(frozen=True, slots=True)
class AppliedChange:
    """The newest change of a page that went to the outputs.

    Attributes:
        version: When it was made.
        fingerprint: Of its text and of how texts are embedded; None after a delete, `REFUSED`
            where there is no vector of it.
    """

    version: Version
    fingerprint: bytes | None


class Applied:
    """The latest applied change of each page of one bucket, the longest untouched dropped first.

    Pages are kept by a digest of their id, so that the memory is bounded whatever the ids are.

    Args:
        packed: What `pack` returned, to go on from there.
        pages: How many pages it remembers.
    """

    def __init__(self, packed: bytes = b"", pages: int = PAGES_PER_BUCKET) -> None:
        self._pages = pages
        self._entries: dict[bytes, bytes] = {
            packed[at : at + _KEY_BYTES]: packed[at + _KEY_BYTES : at + _ENTRY_BYTES]
            for at in range(0, len(packed), _ENTRY_BYTES)
        }

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, page_id: str) -> AppliedChange | None:
        """What was last applied to a page, if that is remembered."""
        entry = self._entries.get(_key(page_id))
        if entry is None:
            return None
        fingerprint = entry[PACKED_BYTES:]
        return AppliedChange(
            Version.unpack(entry[:PACKED_BYTES]), None if fingerprint == _NO_TEXT else fingerprint
        )

    def put(self, page_id: str, version: Version, fingerprint: bytes | None) -> None:
        """Remember a change as the page's newest."""
        key = _key(page_id)
        self._entries.pop(key, None)  # so that it counts as touched last
        self._entries[key] = version.pack() + (fingerprint or _NO_TEXT)
        if len(self._entries) > self._pages:
            del self._entries[next(iter(self._entries))]

    def pack(self) -> bytes:
        """All of it as bytes, 60 a page."""
        return b"".join(key + entry for key, entry in self._entries.items())


def _key(page_id: str) -> bytes:
    return hashlib.blake2b(page_id.encode(), digest_size=_KEY_BYTES).digest()
