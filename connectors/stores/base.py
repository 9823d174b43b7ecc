"""The interface of a vector store: everything that touches its tables uses it.

A store holds two tables. The stream writes vectors; the commands read pages and vectors.

    VectorStore
    ├── pages: TableReader[Page]             scan, get
    ├── vectors: VectorTable                 scan, get, delete
    ├── open_writer() -> VectorWriter        the stream's rows, with an outcome per row
    ├── nearest()                            the stored vectors nearest to one
    └── check(), describe()                  the doctor's findings

A new store is a new folder beside `stargate/` with a `Service` and a subclass of `VectorStore`.
Outside the folder it also needs its settings (`dataflow.config`, `.env.example`, docs/settings.md),
its choice (`dataflow.clients`), a fake and tests, a service in compose.yaml, and its client library
in the lock files. CONTRIBUTING.md describes each step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from connectors.core.findings import Finding
from connectors.core.records import PageVector
from connectors.core.services import Service
from connectors.delivery.writer import Writer
from connectors.observability.metrics import Metrics
from connectors.observability.stalls import Stalls

T = TypeVar("T")
A = TypeVar("A")


class PageStateError(Exception):
    """The store does not accept the position of an earlier scan."""


class UnaddressableIdError(Exception):
    """The store accepts no request for a row with this id."""


@dataclass(frozen=True, slots=True)
class Page:
    """A row of the table of pages.

    Attributes:
        page_id: Its key.
        body: Its text; None if the row has none.
    """

    page_id: str
    body: str | None

    @property
    def has_text(self) -> bool:
        """Whether there is text to embed, so that the page needs a vector."""
        return bool(self.body) and not (self.body or "").isspace()


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A row of the table of vectors.

    Attributes:
        page_id: Its key.
        values: The column `vector` as the store returns it, unchecked.
        model: The model beside it; None if the store keeps none.
    """

    page_id: str
    values: object
    model: object = None


@dataclass(frozen=True, slots=True)
class RowPage(Generic[T]):
    """One page of a scan.

    Attributes:
        rows: Its rows; an empty page is not necessarily the last one.
        next_position: Where the next page begins; None after the last page.
    """

    rows: Sequence[T]
    next_position: str | None


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """A stored vector that is near to the question.

    Attributes:
        score: The cosine of the angle to the question, at most 1.
        page_id: The page.
    """

    score: float
    page_id: str


@dataclass(frozen=True, slots=True)
class NearestRows:
    """The result of a nearest-neighbour search.

    Attributes:
        matches: The nearest rows, the nearest first.
        compared: Rows compared one by one; 0 if the store has an index.
        unfit: Rows skipped because their vector has another size or is not finite.
        sizes: How often each other size occurred, for the first ten sizes.
        other_model: Rows skipped because another model made their vector.
    """

    matches: Sequence[Match]
    compared: int = 0
    unfit: int = 0
    sizes: Mapping[int, int] = field(default_factory=dict)
    other_model: int = 0


class Retry(Protocol):
    """How a caller repeats a read while the store is unavailable."""

    async def __call__(self, attempt: Callable[[], Awaitable[A]], /, remedy: str) -> A:
        """Call `attempt` until it succeeds or the caller gives up.

        Args:
            attempt: One try; raises `ServiceError`.
            remedy: What to do if the store stays unavailable.
        """
        ...


async def once(attempt: Callable[[], Awaitable[A]], /, remedy: str) -> A:
    """The `Retry` that does not retry."""
    del remedy
    return await attempt()


class VectorWriter(Writer[PageVector], Protocol):
    """Upserts the stream's rows, and deletes those without a vector.

    Delivery: at least once.
    """

    def flush(self) -> None:
        """Log what is not logged yet; called at the end of the process."""
        ...


class TableReader(Protocol[T]):
    """Reads one table. All errors of the store go through the caller's `Retry`.

    Attributes:
        name: Keyspace and table.
        setting: The setting that names the table, for remedies.
    """

    name: str
    setting: str

    async def check_columns(self) -> None:
        """Make sure that the table has the columns that are read.

        Raises:
            ServiceError: A column is missing, or the store is unavailable.
        """
        ...

    def scan(self, page_size: int, position: str | None = None) -> AsyncIterator[RowPage[T]]:
        """Read all rows, in any order.

        Args:
            page_size: The most rows in one page.
            position: `next_position` of an earlier scan, to continue after it.

        Raises:
            PageStateError: The store does not accept `position`.
            ServiceError: The store is unavailable, or there is no such table.
        """
        ...

    async def get(self, page_id: str) -> T | None:
        """Read the row of a page; None if there is none.

        Raises:
            UnaddressableIdError: The store accepts no request for this id.
            ServiceError: As `scan`.
        """
        ...


class VectorTable(TableReader[StoredVector], Protocol):
    """Reads the table of vectors, and deletes from it."""

    async def delete(self, page_id: str) -> None:
        """Delete the row of a page, if there is one.

        Raises:
            UnaddressableIdError, ServiceError: As `get`.
        """
        ...


class VectorStore(ABC):
    """One store: what the stream, the doctor, audit, backfill and search use.

    Attributes:
        service: What the store is called.
        address: Its URL or `host:port` without secrets, which readiness waits for.
        http_url: A URL whose responses have a `Date` header, to compare clocks; None: none has.
        concurrency: The most requests in flight.
        keeps_model: Whether it stores the model beside each vector.
        identity: What distinguishes its two tables from those of any other store.
        pages: The table of pages.
        vectors: The table of vectors.
    """

    service: Service
    address: str
    http_url: str | None = None
    concurrency: int
    keeps_model: bool
    identity: tuple[str, ...]
    pages: TableReader[Page]
    vectors: VectorTable

    @abstractmethod
    def open_writer(self, stalls: Stalls, metrics: Metrics) -> VectorWriter:
        """Make the stream's writer; it connects at the first row.

        Args:
            stalls: Where the writer reports that it waits for the store.
            metrics: Where it counts vectors and measures requests.
        """

    @abstractmethod
    async def nearest(
        self,
        question: Sequence[float],
        limit: int,
        *,
        model: str | None,
        page_size: int,
        on_rows: Callable[[int], None],
    ) -> NearestRows:
        """Find the stored vectors nearest to one.

        Args:
            question: A vector of unit length.
            limit: How many rows to return.
            model: Skip vectors of other models; None: compare all.
            page_size: The most rows in one request, for a store that has to scan.
            on_rows: Called with the number of rows each time some were compared.

        Raises:
            ServiceError: The store is unavailable, or there is no such table.
        """

    @abstractmethod
    def check_settings(self) -> list[Finding]:
        """Look for valid settings that are probably a mistake; sends no request."""

    @abstractmethod
    async def describe(self) -> list[Finding]:
        """Check columns, key and index of the table of vectors, with remedies in the store's terms.

        Raises:
            ServiceError: The store is unavailable, or there is no such table.
        """

    @abstractmethod
    async def check(self, *, dimensions: int, write: bool) -> list[Finding]:
        """Run the doctor's checks.

        Args:
            dimensions: The size of a vector.
            write: Whether to write and delete a row of the doctor's own.
        """

    async def close(self) -> None:
        """Close the store's own connections; a store that uses the caller's client has none."""
        return
