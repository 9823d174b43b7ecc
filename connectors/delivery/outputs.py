"""The outputs of a page: the services that take its row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from connectors.core.records import PageVector
from connectors.core.services import Service
from connectors.delivery.write_queue import WriteQueue


@dataclass(frozen=True, slots=True)
class Output:
    """One output.

    Attributes:
        step_id: The step of the graph; a key of the recovery store, so it never changes.
        service: The service that takes the rows.
        write_queue: The rows on their way to it.
        slots: The most requests in flight.
        address: The service's URL or `host:port`, which readiness waits for.
        takes_deletes: Whether it takes the rows of deleted pages too.
    """

    step_id: str
    service: Service
    write_queue: WriteQueue[PageVector]
    slots: int
    address: str
    takes_deletes: bool = False


@dataclass(frozen=True, slots=True)
class OutputCounts:
    """How many outputs must acknowledge a row before its record is settled.

    Attributes:
        vector: For a row with a vector.
        delete: For the row of a deleted page.
    """

    vector: int
    delete: int

    @classmethod
    def of(cls, outputs: Iterable[Output]) -> OutputCounts:
        """Count the outputs."""
        takes_deletes = [output.takes_deletes for output in outputs]
        return cls(vector=len(takes_deletes), delete=sum(takes_deletes))
