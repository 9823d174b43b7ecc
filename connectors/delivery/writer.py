"""The interface of a service that takes the rows of a write queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from connectors.core.errors import Rejection

Row_contra = TypeVar("Row_contra", contravariant=True)


class Writer(Protocol[Row_contra]):
    """Writes rows to a service; a `WriteQueue` calls it on the event loop.

    Attributes:
        rows_per_request: The most rows in one call.
        concurrency: The most calls in flight.
    """

    rows_per_request: int
    concurrency: int

    async def write(self, rows: Sequence[Row_contra]) -> dict[int, Rejection]:
        """Write rows; returns when the service has acknowledged or rejected each of them.

        Returns:
            The rejections, by the index of the row.
        """
        ...
