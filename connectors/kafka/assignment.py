"""Where partitions are read."""

from __future__ import annotations

from dataclasses import dataclass

Position = tuple[int, int]
"""Next offset and era of a partition; plain, because snapshots hold it."""


@dataclass(frozen=True, slots=True)
class LostPosition:
    """A position at which reading could not go on.

    Attributes:
        offset: The offset wanted; -1 where that is not known.
        at: When it was lost (monotonic seconds).
        why: What the broker said.
    """

    offset: int
    at: float
    why: str


@dataclass(slots=True)
class Assignment:
    """Where one partition is read.

    Attributes:
        offset: What is read next; below 0 a name: the committed offset, or the beginning.
        era: How often its offsets have begun anew.
        assigned: Whether the consumer fetches it.
        not_before: When it may be assigned (monotonic seconds).
        answer_by: When its committed offset must be known, else it is asked for again.
        lost: The position that is gone, until it is known where reading goes on.
    """

    offset: int
    era: int
    assigned: bool = False
    not_before: float = 0.0
    answer_by: float = 0.0
    lost: LostPosition | None = None
