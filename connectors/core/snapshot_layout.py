"""The layout of a step's snapshots, and the check that a recovery store has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from connectors.core.errors import IncompatibleRecoveryStoreError


@dataclass(frozen=True, slots=True)
class SnapshotLayout:
    """How a step's snapshots are laid out; every snapshot begins with these numbers.

    Attributes:
        version: Raised whenever the form of the snapshot changes.
        of: What the snapshots hold, for the message.
        keys: How many keys the step has (reader slots or buckets) where the snapshot records it.
    """

    version: int
    of: str
    keys: int | None = None

    def check(self, snapshot: Sequence[object]) -> None:
        """Accept a snapshot of this layout.

        Raises:
            IncompatibleRecoveryStoreError: The snapshot has another layout.
        """
        numbers = (self.version,) if self.keys is None else (self.version, self.keys)
        found = tuple(snapshot[: len(numbers)])
        if found != numbers:
            joined = " of " if self.keys is None else " "
            raise IncompatibleRecoveryStoreError(
                f"layout {_text(found)}{joined}{self.of}", _text(numbers)
            )


def _text(numbers: Sequence[object]) -> str:
    return " with ".join(str(number) for number in numbers)
