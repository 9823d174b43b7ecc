"""Compares the two tables: a scan finds candidates, and a second read confirms the problems."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import Progress

from connectors.stores.base import Page, UnaddressableIdError, VectorStore
from gibsey_embedder.tables.audit_index import AuditIds
from gibsey_embedder.tables.row_checks import RowCheck, RowProblem

BATCH = 256
SETTLE_S = 2.0
"""A change that the stream is processing is stored by then."""
MAX_SETTLED = 10_000
"""Problems that are checked again after `SETTLE_S`; more than this are not in the stream."""


@dataclass(frozen=True, slots=True)
class CheckedId:
    """The current content of both tables for one id.

    Attributes:
        page_id: The id.
        page: The row of the table of pages, or None.
        problem: The problem, or None.
        is_unaddressable: Whether the store accepts no request for this id. Then the problem is the
            one that the scan found, and it cannot be repaired.
    """

    page_id: str
    page: Page | None
    problem: RowProblem | None
    is_unaddressable: bool = False


class Scan:
    """Scans both tables, and reads single rows again.

    Pages change during the scan, so a page may be in one table and not yet in the other. Therefore
    the scan finds only candidates. A candidate is a problem if both rows, read together afterwards,
    show it, and show it again after `SETTLE_S`.

    Args:
        store: The tables.
        ids: Stores the ids and the problems.
        check: Checks rows.
        progress: Shows the progress.
    """

    def __init__(
        self, store: VectorStore, ids: AuditIds, check: RowCheck, progress: Progress
    ) -> None:
        self._store = store
        self._ids = ids
        self._check = check
        self._slots = asyncio.Semaphore(store.concurrency)
        self._progress = progress

    async def run(self, page_size: int) -> None:
        """Scan both tables and put every problem into `ids`.

        Raises:
            GaveUpError: The store cannot be read, so nothing is known.
        """
        await self._scan_pages(page_size)
        await self._scan_vectors(page_size)
        candidates = self._ids.compare()
        task = self._progress.add_task("Checking again", total=candidates)
        for batch in self._ids.candidates(BATCH):
            await self._check_again(batch)
            self._progress.advance(task, len(batch))
        problems = sum(self._ids.counts().values())
        if 0 < problems <= MAX_SETTLED:
            await asyncio.sleep(SETTLE_S)
            for batch in self._ids.problem_ids(BATCH):
                await self._check_again(batch)

    async def check(self, page_ids: Sequence[str]) -> list[CheckedId]:
        """Read and check the rows of some ids concurrently.

        Raises:
            GaveUpError: As `run`.
        """
        return await asyncio.gather(*map(self._check_one, page_ids))

    async def _check_again(self, page_ids: Sequence[str]) -> None:
        for checked in await self.check(page_ids):
            self._ids.set_problem(checked.page_id, checked.problem)

    async def _check_one(self, page_id: str) -> CheckedId:
        async with self._slots:
            try:
                page = await self._store.pages.get(page_id)
                row = await self._store.vectors.get(page_id)
            except UnaddressableIdError as error:
                problem = RowProblem(self._ids.candidate_kind(page_id), str(error))
                return CheckedId(page_id, None, problem, is_unaddressable=True)
        return CheckedId(page_id, page, self._check.pair(page, row))

    async def _scan_pages(self, page_size: int) -> None:
        task = self._progress.add_task("Reading pages", total=None)
        async for chunk in self._store.pages.scan(page_size):
            self._ids.add_pages((page.page_id, page.has_text) for page in chunk.rows)
            self._progress.advance(task, len(chunk.rows))
        self._progress.update(task, total=self._ids.pages(), completed=self._ids.pages())

    async def _scan_vectors(self, page_size: int) -> None:
        task = self._progress.add_task("Reading vectors", total=self._ids.pages() or None)
        async for chunk in self._store.vectors.scan(page_size):
            self._ids.add_vectors(
                (row.page_id, self._check.vector_row(row) is None) for row in chunk.rows
            )
            self._progress.advance(task, len(chunk.rows))
