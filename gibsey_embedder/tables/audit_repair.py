"""Mending what an audit found: changes for pages, removal of what has no page."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.progress import Progress

from gibsey_embedder.tables.audit_index import AuditIds
from gibsey_embedder.tables.audit_scan import Judged, Scan
from gibsey_embedder.tables.page_store import PageStore
from gibsey_embedder.topic.change_sender import ChangeSender, UnsentPage
from gibsey_embedder.topic.stream_lag import Throttle

BATCH = 100
NAMED = 20


@dataclass(slots=True)
class Mended:
    """What a repair did.

    Attributes:
        sent: Pages sent into the topic, confirmed by Kafka.
        removed: Rows removed.
        healed: Faults that were gone when their turn came.
        left: Faults that are still there.
        unsent: The first pages that the topic does not take.
    """

    sent: int = 0
    removed: int = 0
    healed: int = 0
    left: int = 0
    unsent: list[UnsentPage] = field(default_factory=list)


class Repair:
    """Mends faults, one batch after the other, each looked at once more right before.

    Args:
        scan: Looks at rows.
        store: Where rows are removed.
        sender: Sends changes.
        room: Keeps the stream from being flooded.
        keep_orphans: Whether vectors without a page stay.
    """

    def __init__(
        self,
        scan: Scan,
        store: PageStore,
        sender: ChangeSender,
        room: Throttle,
        *,
        keep_orphans: bool,
    ) -> None:
        self._scan = scan
        self._store = store
        self._sender = sender
        self._room = room
        self._keep_orphans = keep_orphans
        self.mended = Mended()

    async def run(self, ids: AuditIds, progress: Progress) -> Mended:
        """Mend all faults in `ids`.

        Raises:
            GaveUpError: Stargate cannot be read or written.
            KafkaUnavailableError: Kafka takes nothing.
        """
        task = progress.add_task("Repairing", total=sum(ids.counts().values()))
        for batch in ids.faulty(BATCH):
            await self._room.wait_for_room(len(batch))
            for judged in await self._scan.judge(batch):
                await self._mend(judged)
            unsent = self._sender.flush()
            self.mended.sent -= len(unsent)
            self.mended.left += len(unsent)
            self.mended.unsent += unsent[: NAMED - len(self.mended.unsent)]
            progress.advance(task, len(batch))
        return self.mended

    async def _mend(self, judged: Judged) -> None:
        page, fault = judged.page, judged.fault
        if fault is None:
            self.mended.healed += 1
        elif judged.out_of_reach:
            self.mended.left += not (self._keep_orphans and fault.kind == "orphan")
        elif page is not None and page.has_text:
            self._sender.send(page.page_id, page.body or "")
            self.mended.sent += 1
        elif page is not None or not self._keep_orphans:
            await self._remove(judged.page_id)

    async def _remove(self, page_id: str) -> None:
        """Remove a vector that no text can make anew, unless there is a text again.

        Where a page came back in between, its vector may have been written before the removal:
        then the next audit finds it missing.
        """
        if not await self._has_text(page_id):
            await self._store.vectors.delete(page_id)
            if not await self._has_text(page_id):
                self.mended.removed += 1
                return
        self.mended.left += 1

    async def _has_text(self, page_id: str) -> bool:
        page = await self._store.pages.get(page_id)
        return page is not None and page.has_text
