"""Decides which change of a page wins: the newest one, whatever order they arrive in.

Each bucket remembers the newest change of each page that went to the outputs. A change that is
older, or the same again, is stale. A change to the same text is unchanged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from connectors.embedders.text_rules import TextRules
from dataflow.steps.changes import PACKED_BYTES, Change, Version

PAGES_PER_BUCKET = 4096
"""Pages whose versions a bucket remembers: 256 KB of snapshot and about 1 MB of memory if full. A
late change of a page that is not among them counts as new."""

FINGERPRINT_BYTES = 16
_KEY_BYTES = 12
_NO_TEXT = bytes(FINGERPRINT_BYTES)
BY_FALLBACK = b"\xff" * FINGERPRINT_BYTES
"""Instead of a fingerprint: the fallback made the page's vector, so no text is unchanged."""
_ENTRY_BYTES = _KEY_BYTES + PACKED_BYTES + FINGERPRINT_BYTES

Decision = Literal["newest", "unchanged", "stale"]


@dataclass(slots=True)
class PageVersion:
    """The newest change of a page that went to the outputs.

    Attributes:
        version: When the change was made.
        fingerprint: The fingerprint of its text under its text rules; None after a delete,
            `BY_FALLBACK` if the fallback embedded the text.
    """

    version: Version
    fingerprint: bytes | None


class PageVersions:
    """The versions of the latest pages of one bucket, and the decisions that follow from them.

    The keys are digests of the page ids, so that the memory is bounded whatever the ids are. The
    page that has not changed for the longest time is dropped first.

    Args:
        packed: What `pack` returned, to resume from.
        pages: How many pages are kept.
        other_space: Called with the change in the number of pages that have a vector of the
            fallback.
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

    # --- decisions ---

    def decide(
        self, change: Change, newest_open: Version | None, rules: TextRules | None
    ) -> Decision:
        """Decide whether a change is the newest of its page.

        Args:
            change: The change.
            newest_open: The version of the page's newest change that is not finished, if any. It
                counts beside the finished ones, because a newer change may have overtaken it.
            rules: The present text rules, if they are known.
        """
        if newest_open is not None and _is_older_or_repeated(change, newest_open):
            return "stale"
        known = self.get(change.page_id)
        if known is None:
            return "newest"
        if _is_stale(change, known, rules):
            return "stale"
        if newest_open is None and _is_unchanged(change, known, rules):
            return "unchanged"
        return "newest"

    def record_unchanged(self, change: Change) -> None:
        """Record the version of a change that did not alter the text."""
        known = self.get(change.page_id)
        self.put(change.page_id, change.version, known.fingerprint if known else None)

    def record_removed(self, change: Change) -> None:
        """Record a change that left no text."""
        self.put(change.page_id, change.version, None)

    def record_embedded(
        self, change: Change, rules: TextRules | None, *, by_fallback: bool, is_refused: bool
    ) -> bool:
        """Record a change whose embedding is finished.

        Args:
            change: The change.
            rules: The present text rules, if they are known.
            by_fallback: Whether the fallback made the vector.
            is_refused: Whether there is no vector. The page keeps an older one of the fallback.

        Returns:
            False if a newer change has overtaken it; then nothing is recorded.
        """
        known = self.get(change.page_id)
        version, fingerprint = change.version, fingerprint_of(change, rules)
        if known is not None:
            if _is_stale(change, known, rules):
                return False
            if version.compare(known.version) < 0:  # a replay of a text that was written again
                version = known.version
            if is_refused and known.fingerprint == BY_FALLBACK:
                fingerprint = BY_FALLBACK
        self.put(change.page_id, version, BY_FALLBACK if by_fallback else fingerprint)
        return True

    # --- the versions ---

    def get(self, page_id: str) -> PageVersion | None:
        """Return the newest change of a page that went to the outputs, if it is still kept."""
        entry = self._entries.get(_key(page_id))
        if entry is None:
            return None
        fingerprint = entry[PACKED_BYTES:]
        return PageVersion(
            Version.unpack(entry[:PACKED_BYTES]), None if fingerprint == _NO_TEXT else fingerprint
        )

    def put(self, page_id: str, version: Version, fingerprint: bytes | None) -> None:
        """Remember a change as the newest of its page."""
        key = _key(page_id)
        previous = self._entries.pop(key, b"")  # so that the new entry is the last one
        entry = self._entries[key] = version.pack() + (fingerprint or _NO_TEXT)
        more = _is_by_fallback(entry) - _is_by_fallback(previous)
        if len(self._entries) > self._limit:
            oldest = list(islice(self._entries, self._drops))
            more -= sum(_is_by_fallback(self._entries.pop(key)) for key in oldest)
        if more:
            self._other_space(more)

    def pack(self) -> bytes:
        """Return all versions as bytes, 60 for each page."""
        return b"".join(part for entry in self._entries.items() for part in entry)


def fingerprint_of(change: Change, rules: TextRules | None) -> bytes | None:
    """Return the fingerprint of a change's text; None without a text, or without the rules."""
    return rules.fingerprint(change.body or "") if rules and not change.is_blank else None


def _is_older_or_repeated(change: Change, newest: Version) -> bool:
    """Return whether a change is older than another one, or the same; a replay may repeat it."""
    order = change.version.compare(newest)
    return order < 0 or (order == 0 and not change.is_replay)


def _is_stale(change: Change, known: PageVersion, rules: TextRules | None) -> bool:
    """Return whether the known change is newer, or the same.

    A replay of the known text is never stale: newer changes to that text were skipped as
    unchanged, so they did not make up for what the dead letter missed.

    A text wins over a delete of the same time: Debezium makes two events of a batch that deletes
    a row and writes it again, and gives both the time of the later one. Of a batch in which the
    delete wins it reports only the delete.
    """
    if change.is_replay and not change.is_blank:
        fingerprint = fingerprint_of(change, rules)
        if fingerprint is None or fingerprint == known.fingerprint:
            return False
    if known.fingerprint is None and change.version.compare(known.version) == 0:
        return change.is_blank and not change.is_replay
    return _is_older_or_repeated(change, known.version)


def _is_unchanged(change: Change, known: PageVersion, rules: TextRules | None) -> bool:
    """Return whether an update leaves the page's text, and the rules for it, as they were."""
    if change.op != "u" or change.is_replay or known.fingerprint is None:
        return False
    return fingerprint_of(change, rules) == known.fingerprint


def _is_by_fallback(entry: bytes) -> bool:
    return entry.endswith(BY_FALLBACK)


def _key(page_id: str) -> bytes:
    return hashlib.blake2b(page_id.encode(), digest_size=_KEY_BYTES).digest()
