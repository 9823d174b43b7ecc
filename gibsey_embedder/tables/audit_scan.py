"""Comparing the two tables: what looks wrong while they pass by, and what is wrong for sure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rich.progress import Progress

from gibsey_embedder.tables.audit_index import AuditIds
from gibsey_embedder.tables.page_store import PageStore
from gibsey_embedder.tables.row_checks import Page, RowProblem, Wanted
from gibsey_embedder.tables.rows import UnaddressableIdError

BATCH = 256
SETTLE_S = 2.0
"""A change that is on its way through the stream is stored by then."""
SETTLED_AT_MOST = 10_000
"""Faults that are looked at a second time: more are not on their way."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one id has in the two tables at this moment.

    Attributes:
        page_id: The id.
        page: Its page, or None.
        fault: What is wrong, or None.
        out_of_reach: Whether no row of this id can be asked for; what is wrong is then what the
            reading of the tables found, and cannot be mended.
    """

    page_id: str
    page: Page | None
    fault: RowProblem | None
    out_of_reach: bool = False


class Scan:
    """Reads both tables, and looks at single rows again.

    While the tables are read pages change: a page may be in one and not yet in the other. So what
    the reading finds is only suspect; it is a fault when both rows, read side by side afterwards,
    show it, and once more after a while.

    Args:
        store: The tables.
        ids: Keeps what is seen.
        wanted: What a good vector is.
        concurrency: Requests at the same time.
        progress: Where it is shown.
    """

    def __init__(
        self,
        store: PageStore,
        ids: AuditIds,
        wanted: Wanted,
        concurrency: int,
        progress: Progress,
    ) -> None:
        self._store = store
        self._ids = ids
        self._wanted = wanted
        self._slots = asyncio.Semaphore(concurrency)
        self._progress = progress

    async def run(self, page_size: int) -> None:
        """Read both tables and note every fault in `ids`.

        Raises:
            GaveUpError: Stargate cannot be read; then nothing is known.
        """
        await self._read_pages(page_size)
        await self._read_vectors(page_size)
        suspects = self._ids.compare()
        task = self._progress.add_task("Looking again", total=suspects)
        for batch in self._ids.suspects(BATCH):
            await self._look_again(batch)
            self._progress.advance(task, len(batch))
        faults = sum(self._ids.counts().values())
        if 0 < faults <= SETTLED_AT_MOST:
            await asyncio.sleep(SETTLE_S)
            for batch in self._ids.faulty(BATCH):
                await self._look_again(batch)

    async def judge(self, page_ids: Sequence[str]) -> list[Judged]:
        """Look at ids anew, side by side.

        Raises:
            GaveUpError: As `run`.
        """
        return await asyncio.gather(*map(self._judge, page_ids))

    async def _look_again(self, page_ids: Sequence[str]) -> None:
        for judged in await self.judge(page_ids):
            self._ids.set_fault(judged.page_id, judged.fault)

    async def _judge(self, page_id: str) -> Judged:
        async with self._slots:
            try:
                page = await self._store.pages.get(page_id)
                row = await self._store.vectors.get(page_id)
            except UnaddressableIdError as refused:
                fault = RowProblem(self._ids.kind_seen(page_id), str(refused))
                return Judged(page_id, None, fault, out_of_reach=True)
        return Judged(page_id, page, self._wanted.judge(page, row))

    async def _read_pages(self, page_size: int) -> None:
        task = self._progress.add_task("Reading pages", total=None)
        async for chunk in self._store.pages.batches(page_size):
            self._ids.saw_pages((page.page_id, page.has_text) for page in chunk.rows)
            self._progress.advance(task, len(chunk.rows))
        self._progress.update(task, total=self._ids.pages(), completed=self._ids.pages())

    async def _read_vectors(self, page_size: int) -> None:
        task = self._progress.add_task("Reading vectors", total=self._ids.pages() or None)
        async for chunk in self._store.vectors.batches(page_size):
            self._ids.saw_vectors(
                (row.page_id, self._wanted.problem_of(row) is None) for row in chunk.rows
            )
            self._progress.advance(task, len(chunk.rows))
