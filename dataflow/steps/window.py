"""Step "window": each page's newest change is embedded.

The step is keyed by the bucket of the page id, so that all changes of a page meet in one bucket,
whichever partition they came from. `page_versions` decides which of them is the newest. The
process's one batcher (`connectors.embedders.batching.batcher`) gathers the pages of all buckets
and workers into windows.
"""

from __future__ import annotations

import pickle
from collections import deque
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from bytewax.operators import StatefulBatchLogic
from prometheus_client import Counter
from typing_extensions import override

from connectors.core.buckets import BUCKETS
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import DeadLetter, FlushMarker, Outcome, PageVector
from connectors.core.snapshot_layout import SnapshotLayout
from connectors.delivery.backpressure import Backpressure
from connectors.delivery.outputs import OutputCounts
from connectors.embedders.batching.interface import JobEmbedder
from connectors.embedders.batching.jobs import EmbeddingJob
from connectors.embedders.service import REJECTED
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from connectors.runtime.tuning.timer_slack import TimerSlack
from dataflow.steps.changes import Change
from dataflow.steps.flush_markers import FLUSH_AFTER_S, FlushMarkers
from dataflow.steps.page_versions import PageVersions
from dataflow.steps.poll_interval import PollInterval

STATE_VERSION = 2
"""Raised whenever the form of the snapshot, or the meaning of the buckets, changes."""
LAYOUT = SnapshotLayout(STATE_VERSION, "buckets", BUCKETS)

HALT_TIMEOUT_S = 60.0
"""Longer than the watchdog waits, because the watchdog ends a process whose embedder hangs."""


@dataclass(frozen=True, slots=True)
class WindowStep:
    """What all buckets share; a call makes the logic of one bucket.

    Attributes:
        batcher: Embeds the pages.
        tracker: Settles the records that end here.
        metrics: Counts the outcomes.
        shutdown: Ends the process on an error.
        output_counts: How many outputs take a row.
        delete_rows: Whether the row of a deleted page is removed.
        backpressure: Keeps the epoch of a cluster open while too many pages wait.
        slack: Learns that there is work, because a peer may have read it.
        flush_after_s: Seconds between a bucket's last page and its first flush marker.
        halt_timeout_s: Seconds that a stop waits for the requests in flight.
    """

    batcher: JobEmbedder
    tracker: OffsetTracker
    metrics: Metrics
    shutdown: Shutdown
    output_counts: OutputCounts
    delete_rows: bool
    backpressure: Backpressure | None = None
    slack: TimerSlack = field(default_factory=TimerSlack)
    flush_after_s: float = FLUSH_AFTER_S
    halt_timeout_s: float = HALT_TIMEOUT_S

    def __call__(self, snapshot: bytes | None) -> Window:
        """Make the logic of a bucket, which resumes from its snapshot if it has one."""
        with self.shutdown.guard("window"):
            self.slack.start_thread()
            return Window(self, snapshot)


class Window(StatefulBatchLogic[list[Change], list[Outcome], bytes]):
    """One bucket: its pages that are being embedded, and the versions of its latest pages.

    The state is bounded by the limit of open records and by that of `PageVersions`. The snapshot
    holds every change that was not emitted.
    """

    def __init__(self, step: WindowStep, snapshot: bytes | None) -> None:
        self._step = step
        self._open: dict[str, list[EmbeddingJob[Change]]] = {}  # by page, oldest first
        self._new: list[EmbeddingJob[Change]] = []
        self._finished: deque[EmbeddingJob[Change]] = deque()  # the event loop appends to it
        self._versions = PageVersions(other_space=step.metrics.other_space_pages.inc)
        self._poll_interval = PollInterval()
        self._flush_markers = FlushMarkers(step.flush_after_s)
        self._counters: dict[tuple[str, str], Counter] = {}
        if snapshot is not None:
            self._resume(snapshot)

    @override
    def on_batch(self, values: list[list[Change]]) -> tuple[list[list[Outcome]], bool]:
        with self._step.shutdown.guard("window"):
            self._step.slack.work_arrived()
            out: list[Outcome] = []
            for changes in values:
                self._step.tracker.receive(change.record for change in changes)
                for change in changes:
                    self._take(change, out)
            self._submit()
            return self._emit(out), StatefulBatchLogic.RETAIN

    @override
    def on_notify(self) -> tuple[list[list[Outcome]], bool]:
        with self._step.shutdown.guard("window"):
            return self._emit([]), StatefulBatchLogic.RETAIN

    @override
    def on_eof(self) -> tuple[list[list[Outcome]], bool]:
        """Stop: wait for the requests in flight; all other pages stay in the snapshot."""
        with self._step.shutdown.guard("window"):
            with suppress(FutureTimeoutError):
                self._step.batcher.halt().result(self._step.halt_timeout_s)
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
            open_changes = [job.change.plain() for jobs in self._open.values() for job in jobs]
            return pickle.dumps((STATE_VERSION, BUCKETS, open_changes, self._versions.pack()))

    def _resume(self, snapshot: bytes) -> None:
        state = pickle.loads(snapshot)  # noqa: S301 - our own store
        LAYOUT.check(state)
        _, _, open_changes, versions = state
        count_other_space = self._step.metrics.other_space_pages.inc
        self._versions = PageVersions(versions, other_space=count_other_space)
        self._flush_markers.begin()
        changes = [Change.from_plain(fields) for fields in open_changes]
        self._step.tracker.open(change.record for change in changes)
        for change in changes:
            self._embed(change)
        self._submit()

    # --- from the filter to the batcher ---

    def _take(self, change: Change, out: list[Outcome]) -> None:
        jobs = self._open.get(change.page_id)
        newest_open = jobs[-1].change.version if jobs else None
        decision = self._versions.decide(change, newest_open, self._step.batcher.rules)
        if decision == "stale":
            self._settle(change, "skipped_stale")
        elif change.is_blank:
            self._remove(change, out)
        elif decision == "unchanged":
            self._versions.record_unchanged(change)
            self._settle(change, "skipped_unchanged")
        else:
            self._embed(change)

    def _remove(self, change: Change, out: list[Outcome]) -> None:
        """Remove the row of a page without a text, if `delete_rows` is on.

        Otherwise the change has no effect, not even on older changes that are still open: what the
        store holds in the end must not depend on how fast the embedder was.
        """
        is_delete = change.body is None
        if not self._step.delete_rows:
            self._settle(change, "skipped_op" if is_delete else "skipped_blank")
            return
        self._drop_unsent(change.page_id)
        self._versions.record_removed(change)
        self._count(change, "deleted" if is_delete else "skipped_blank")
        self._step.tracker.expect(change.record, self._step.output_counts.delete)
        self._step.tracker.hand_over((change.record,))
        out.append(PageVector(change.page_id, None, change.record, change.version.written_us))

    def _embed(self, change: Change) -> None:
        self._drop_unsent(change.page_id)
        job = EmbeddingJob(change.body or "", self._finished.append, change)
        self._open.setdefault(change.page_id, []).append(job)
        self._new.append(job)

    def _drop_unsent(self, page_id: str) -> None:
        """Drop older changes of a page that no request holds yet."""
        for job in list(self._open.get(page_id, ())):
            if not job.sent:
                job.dropped = True
                self._close(job)
                self._settle(job.change, "coalesced")

    def _submit(self) -> None:
        if self._new:
            self._poll_interval.reset()
            self._step.batcher.submit(self._new)
            self._new = []

    # --- from the batcher to the outputs ---

    def _emit(self, out: list[Outcome]) -> list[list[Outcome]]:
        """Return the outcomes given and those of the finished pages, as one item or none."""
        if self._finished:
            self._poll_interval.reset()
        while self._finished:
            job = self._finished.popleft()
            if not job.dropped:
                self._close(job)
                self._finish(job, out)
        if out:
            self._flush_markers.begin()
        elif marker := self._flush_markers.check(is_settled=not self._step.tracker.open_pages):
            out.append(marker)
        return [out] if out else []

    def _close(self, job: EmbeddingJob[Change]) -> None:
        page_id = job.change.page_id
        jobs = self._open[page_id]
        jobs.remove(job)
        if not jobs:
            del self._open[page_id]

    def _finish(self, job: EmbeddingJob[Change], out: list[Outcome]) -> None:
        change, is_refused = job.change, job.vector is None
        rules, by_fallback = self._step.batcher.rules, job.other_space
        if not self._versions.record_embedded(
            change, rules, by_fallback=by_fallback, is_refused=is_refused
        ):
            self._settle(change, "coalesced")
            return
        if is_refused:
            self._count(change, "refused")
            out.append(DeadLetter(change.record, REJECTED, job.refused or ""))
        else:
            self._count(change, "embedded")
            self._step.tracker.expect(change.record, self._step.output_counts.vector)
            out.append(_page_vector(job))
        self._step.tracker.hand_over((change.record,))

    def _settle(self, change: Change, outcome: str) -> None:
        self._count(change, outcome)
        self._step.tracker.settle(change.record)

    def _count(self, change: Change, outcome: str) -> None:
        counter = self._counters.get((change.op, outcome))
        if counter is None:
            counter = self._step.metrics.events.labels(change.op, outcome)
            self._counters[change.op, outcome] = counter
        counter.inc()


def _page_vector(job: EmbeddingJob[Change]) -> PageVector:
    change, written_us = job.change, job.change.version.written_us
    return PageVector(
        change.page_id, job.vector, change.record, written_us, job.model, job.other_space
    )
