"""Repairs the problems of an audit: sends changes for pages, removes vectors without a page."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.progress import Progress

from connectors.stores.base import VectorStore
from gibsey_embedder.tables.audit_index import AuditIds
from gibsey_embedder.tables.audit_scan import CheckedId, Scan
from gibsey_embedder.topic.change_sender import ChangeSender, UnsentPage
from gibsey_embedder.topic.stream_lag import Throttle

BATCH = 100
MAX_NAMED = 20


@dataclass(slots=True)
class Repaired:
    """What a repair did.

    Attributes:
        sent: Pages sent to the topic and confirmed by Kafka.
        removed: Vectors removed.
        already_right: Problems that no longer existed at the time of the repair.
        left: Problems that still exist.
        unsent: The first pages that the topic does not accept.
    """

    sent: int = 0
    removed: int = 0
    already_right: int = 0
    left: int = 0
    unsent: list[UnsentPage] = field(default_factory=list)


class Repair:
    """Repairs problems in batches, and checks each one again immediately before.

    Args:
        scan: Checks rows.
        store: The store, for the removal of vectors.
        sender: Sends changes.
        throttle: Keeps the lag of the stream within its limit.
        keep_orphans: Whether vectors without a page stay.
    """

    def __init__(
        self,
        scan: Scan,
        store: VectorStore,
        sender: ChangeSender,
        throttle: Throttle,
        *,
        keep_orphans: bool,
    ) -> None:
        self._scan = scan
        self._store = store
        self._sender = sender
        self._throttle = throttle
        self._keep_orphans = keep_orphans
        self.repaired = Repaired()

    async def run(self, ids: AuditIds, progress: Progress) -> Repaired:
        """Repair all problems in `ids`.

        Raises:
            GaveUpError: The store cannot be read or written.
            KafkaUnavailableError: Kafka does not accept a change.
        """
        repaired = self.repaired
        task = progress.add_task("Repairing", total=sum(ids.counts().values()))
        for batch in ids.problem_ids(BATCH):
            await self._throttle.wait_for_room(len(batch))
            for checked in await self._scan.check(batch):
                await self._repair(checked)
            unsent = self._sender.flush()
            repaired.sent -= len(unsent)
            repaired.left += len(unsent)
            repaired.unsent += unsent[: MAX_NAMED - len(repaired.unsent)]
            progress.advance(task, len(batch))
        return repaired

    async def _repair(self, checked: CheckedId) -> None:
        page, problem = checked.page, checked.problem
        if problem is None:
            self.repaired.already_right += 1
        elif checked.is_unaddressable:
            self.repaired.left += not (self._keep_orphans and problem.kind == "orphan")
        elif page is not None and page.has_text:
            self._sender.send(page.page_id, page.body or "")
            self.repaired.sent += 1
        elif page is not None or not self._keep_orphans:
            await self._remove(checked.page_id)

    async def _remove(self, page_id: str) -> None:
        """Remove a vector whose page has no text, unless there is a text again.

        If a page comes back in between, the removal may delete its new vector; then the next audit
        reports it as missing.
        """
        if not await self._has_text(page_id):
            await self._store.vectors.delete(page_id)
            if not await self._has_text(page_id):
                self.repaired.removed += 1
                return
        self.repaired.left += 1

    async def _has_text(self, page_id: str) -> bool:
        page = await self._store.pages.get(page_id)
        return page is not None and page.has_text
