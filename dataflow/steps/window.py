"""Step "window": the newest change of each page goes through the embedder, in windows.

The step is keyed by the bucket of the page, so all changes of one page meet here whatever
partition they came by. Here it is decided which changes are done at all; the windows themselves
are gathered across buckets and workers by the process's one batcher
(`connectors.embedders.batching.batcher`).
"""

from __future__ import annotations

import pickle
from collections import deque
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from bytewax.operators import StatefulBatchLogic
from prometheus_client import Counter
from typing_extensions import override

from connectors.core.buckets import BUCKETS
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import DeadLetter, FlushMarker, Outcome, PageVector, Record
from connectors.core.snapshot_layout import SnapshotLayout
from connectors.delivery.backpressure import Backpressure
from connectors.embedders.batching.jobs import EmbeddingJob
from connectors.embedders.text_rules import TextRules
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from connectors.runtime.tuning.timer_slack import TimerSlack
from dataflow.steps.changes import Change, Version
from dataflow.steps.flush_markers import FlushMarkers
from dataflow.steps.page_versions import BY_FALLBACK, PageVersion, PageVersions
from dataflow.steps.poll_interval import PollInterval

STATE_VERSION = 2
LAYOUT = SnapshotLayout(STATE_VERSION, "buckets", BUCKETS)
"""Raised whenever the snapshot's form, or what buckets mean, changes."""

HALT_TIMEOUT_S = 60.0
"""Longer than the watchdog waits: it is the watchdog that ends a process whose embedder hangs."""


class Embedding(Protocol):
    """The batcher, as this step uses it."""

    @property
    def rules(self) -> TextRules | None:
        """How texts are prepared; None until the embedder has told about its model."""

    def submit(self, jobs: list[EmbeddingJob[Change]]) -> None:
        """Take jobs."""

    def halt(self) -> Any:
        """Send no new window; the future's result comes when none is in flight."""


@dataclass(frozen=True, slots=True)
class WindowStep:
    """What all buckets share; calling it makes the logic of one bucket.

    Attributes:
        batcher: Embeds.
        tracker: Where what ends here is settled.
        metrics: Where outcomes are counted.
        shutdown: Ends the process on an error.
        delete_rows: Whether a deleted page's row is removed.
        backpressure: Makes an epoch of a cluster wait, where too much has come.
        slack: Hears that there is something to do, which a peer may have read.
    """

    batcher: Embedding
    tracker: OffsetTracker
    metrics: Metrics
    shutdown: Shutdown
    delete_rows: bool
    backpressure: Backpressure | None = None
    slack: TimerSlack = field(default_factory=TimerSlack)

    def __call__(self, snapshot: bytes | None) -> Window:
        """Make a bucket's logic, anew or from its snapshot."""
        with self.shutdown.guard("window"):
            self.slack.start_thread()
            return Window(self, snapshot)


class Window(StatefulBatchLogic[list[Change], list[Outcome], bytes]):
    """One bucket: which of its changes are open, and what was last applied to its pages.

    Its state is bounded by the tracker's limit of open pages and by `PageVersions`'s; the snapshot
    holds every change that has not been emitted.
    """

    def __init__(self, step: WindowStep, snapshot: bytes | None) -> None:
        self._step = step
        self._open: dict[str, list[EmbeddingJob[Change]]] = {}  # by page, oldest first
        self._finished: deque[EmbeddingJob[Change]] = deque()  # filled by the event loop
        self._new: list[EmbeddingJob[Change]] = []
        self._versions = PageVersions(other_space=step.metrics.other_space_pages.inc)
        self._poll_interval = PollInterval()
        self._flush_markers = FlushMarkers()
        self._counted: dict[tuple[str, str], Counter] = {}
        if snapshot is not None:
            self._restore(snapshot)

    @override
    def on_batch(self, values: list[list[Change]]) -> tuple[list[list[Outcome]], bool]:
        with self._step.shutdown.guard("window"):
            self._step.slack.work_arrived()
            out: list[Outcome] = []
            for group in values:
                self._step.tracker.received(change.record for change in group)
                for change in group:
                    self._take(change, out)
            self._submit()
            return self._emit(out), StatefulBatchLogic.RETAIN

    @override
    def on_notify(self) -> tuple[list[list[Outcome]], bool]:
        with self._step.shutdown.guard("window"):
            return self._emit([]), StatefulBatchLogic.RETAIN

    @override
    def on_eof(self) -> tuple[list[list[Outcome]], bool]:
        """A stop was asked for: what is in a request is awaited, the rest stays in the snapshot."""
        with self._step.shutdown.guard("window"):
            with suppress(FutureTimeoutError):  # not reached before the watchdog
                self._step.batcher.halt().result(HALT_TIMEOUT_S)
            return [*self._emit([]), [FlushMarker()]], StatefulBatchLogic.RETAIN

    @override
    def notify_at(self) -> datetime | None:
        if self._open:
            return self._poll_interval.next_poll(self._step.tracker.open_pages)
        return self._flush_markers.due_at

    @override
    def snapshot(self) -> bytes:
        with self._step.shutdown.guard("window"):
            if self._step.backpressure is not None:
                self._step.backpressure.hold_epoch()
            waiting = [_packed(job.change) for jobs in self._open.values() for job in jobs]
            return pickle.dumps((STATE_VERSION, BUCKETS, waiting, self._versions.pack()))

    def _restore(self, snapshot: bytes) -> None:
        state = pickle.loads(snapshot)  # noqa: S301 - our own store
        LAYOUT.check(state)
        _, _, waiting, applied = state
        self._versions = PageVersions(applied, other_space=self._step.metrics.other_space_pages.inc)
        self._flush_markers.begin()
        changes = [_unpacked(fields) for fields in waiting]
        self._step.tracker.opened(change.record for change in changes)
        for change in changes:
            self._embed(change)
        self._submit()

    def _take(self, change: Change, out: list[Outcome]) -> None:
        """Decide what is to be done for a change."""
        open_changes = self._open.get(change.page_id)
        applied = self._versions.get(change.page_id)
        # both count: while an older change is in a request, a newer one may have overtaken it
        if (open_changes and _is_late(change, open_changes[-1].change.version)) or (
            applied is not None and self._is_late_to(change, applied)
        ):
            self._end(change, "skipped_stale")
        elif change.is_blank:
            self._remove(change, out)
        elif not open_changes and applied is not None and self._unchanged(change, applied):
            self._versions.put(change.page_id, change.version, applied.fingerprint)
            self._end(change, "skipped_unchanged")
        else:
            self._embed(change)

    def _unchanged(self, change: Change, applied: PageVersion) -> bool:
        fingerprint = self._fingerprint(change)
        return (
            change.op == "u"
            and not change.is_replay
            and fingerprint is not None
            and applied.fingerprint == fingerprint
        )

    def _fingerprint(self, change: Change) -> bytes | None:
        """Of a change's text; None where it has none, or the rules are not known yet."""
        rules = self._step.batcher.rules
        return rules.fingerprint(change.body or "") if rules and not change.is_blank else None

    def _is_late_to(self, change: Change, applied: PageVersion) -> bool:
        """Whether what was applied is newer, or the same; a replay may repeat.

        A replay of the text that was applied last is not late, whatever is newer: the newer
        change was skipped as unchanged, and what the letter missed is missing still.

        A text outlives a delete of its own time. Of a batch that deletes a row and writes it anew
        Debezium makes two events, and gives both the time of the later one; of a batch whose
        delete wins it tells the delete alone.
        """
        if change.is_replay and not change.is_blank:
            fingerprint = self._fingerprint(change)
            if fingerprint is None or fingerprint == applied.fingerprint:
                return False
        if change.version.compare(applied.version) == 0 and applied.fingerprint is None:
            return change.is_blank and not change.is_replay
        return _is_late(change, applied.version)

    def _remove(self, change: Change, out: list[Outcome]) -> None:
        """Apply a change that leaves no text: the row goes, where rows of such pages go.

        Where they stay the change has no effect at all, also on older ones that are still open:
        what the store ends up with must not depend on how fast the embedder was.
        """
        is_delete = change.body is None
        if not self._step.delete_rows:
            self._end(change, "skipped_op" if is_delete else "skipped_blank")
            return
        self._drop_unsent(change.page_id)
        self._versions.put(change.page_id, change.version, None)
        self._count(change, "deleted" if is_delete else "skipped_blank")
        self._step.tracker.handed_over((change.record,))
        out.append(_removal(change))

    def _embed(self, change: Change) -> None:
        self._drop_unsent(change.page_id)
        job = EmbeddingJob(change.body or "", self._finished.append, change)
        self._open.setdefault(change.page_id, []).append(job)
        self._new.append(job)

    def _submit(self) -> None:
        if self._new:
            self._poll_interval.reset()
            self._step.batcher.submit(self._new)
            self._new = []

    def _drop_unsent(self, page_id: str) -> None:
        """Let go of older changes of a page that no request holds yet."""
        for older in list(self._open.get(page_id, ())):
            if not older.sent:
                older.dropped = True
                self._close(older)
                self._end(older.change, "coalesced")

    def _emit(self, out: list[Outcome]) -> list[list[Outcome]]:
        """What is finished behind what is given, as the one item that the outputs get, or none."""
        if self._finished:
            self._poll_interval.reset()
        while self._finished:
            job = self._finished.popleft()
            if not job.dropped:
                self._close(job)
                self._apply(job, out)
        if out:
            self._flush_markers.begin()
        elif seal := self._flush_markers.look(is_settled=not self._step.tracker.open_pages):
            out.append(seal)
        return [out] if out else []

    def _close(self, job: EmbeddingJob[Change]) -> None:
        page_id = job.change.page_id
        jobs = self._open[page_id]
        jobs.remove(job)
        if not jobs:
            del self._open[page_id]

    def _apply(self, job: EmbeddingJob[Change], out: list[Outcome]) -> None:
        change = job.change
        applied = self._versions.get(change.page_id)
        if applied is not None and self._is_late_to(change, applied):
            self._end(change, "coalesced")  # a newer one was faster
            return
        version = change.version
        if applied is not None and version.compare(applied.version) < 0:
            version = applied.version  # a replay of a text that was written again since
        self._versions.put(change.page_id, version, self._remembered(job, applied))
        if job.vector is None:
            self._count(change, "refused")
            self._step.tracker.handed_over((change.record,))
            out.append(DeadLetter(change.record, "refused-by-embedder", job.refused or ""))
            return
        self._count(change, "embedded")
        self._step.tracker.expect(change.record, outputs=2)
        self._step.tracker.handed_over((change.record,))
        out.append(_vector(job))

    def _remembered(self, job: EmbeddingJob[Change], applied: PageVersion | None) -> bytes | None:
        """What is remembered of a page's text; without a vector the page keeps its older one."""
        was_other = applied is not None and applied.fingerprint == BY_FALLBACK
        if job.other_space or (was_other and job.vector is None):
            return BY_FALLBACK
        return self._fingerprint(job.change)

    def _end(self, change: Change, outcome: str) -> None:
        self._count(change, outcome)
        self._step.tracker.settled(change.record)

    def _count(self, change: Change, outcome: str) -> None:
        counted = self._counted.get((change.op, outcome))
        if counted is None:
            counted = self._step.metrics.events.labels(change.op, outcome)
            self._counted[change.op, outcome] = counted
        counted.inc()


def _is_late(change: Change, latest: Version) -> bool:
    """Whether a change is older than, or a repeat of, what is known; a replay may repeat."""
    order = change.version.compare(latest)
    return order < 0 or (order == 0 and not change.is_replay)


def _vector(job: EmbeddingJob[Change]) -> PageVector:
    change = job.change
    written_us = change.version.written_us
    return PageVector(
        change.page_id, job.vector, change.record, written_us, job.model, job.other_space
    )


def _removal(change: Change) -> PageVector:
    return PageVector(change.page_id, None, change.record, change.version.written_us)


def _packed(change: Change) -> tuple[Any, ...]:
    """A change as plain values: what a snapshot holds must be readable by later versions."""
    record, version = change.record.plain(), change.version.plain()
    return record, change.page_id, change.op, change.body, version


def _unpacked(fields: tuple[Any, ...]) -> Change:
    record, page_id, op, body, version = fields
    return Change(Record(*record), page_id, op, body, Version(*version))
