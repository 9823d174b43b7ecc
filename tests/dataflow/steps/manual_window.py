"""The step "window" with a batcher that a test controls."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from itertools import chain

from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import DeadLetter, Outcome, PageVector, Record
from connectors.delivery.outputs import OutputCounts
from connectors.embedders.batching.jobs import EmbeddingJob
from connectors.embedders.text_rules import TextRules
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from dataflow.steps.changes import ANY_ERA, Change, Op, Version
from dataflow.steps.flush_markers import FLUSH_AFTER_S
from dataflow.steps.window import HALT_TIMEOUT_S, Window, WindowStep


class ManualBatcher:
    """Keeps jobs until the test sends and embeds them.

    Attributes:
        other_space: Whether the fallback embeds.
    """

    def __init__(self, rules: TextRules | None = None) -> None:
        self.rules = rules or TextRules("m")
        self.jobs: list[EmbeddingJob[Change]] = []
        self.halts: list[Future[None]] = []
        self.other_space = False

    def submit(self, jobs: Iterable[EmbeddingJob[Change]]) -> None:
        self.jobs.extend(jobs)

    def halt(self) -> Future[None]:
        self.halts.append(Future())
        return self.halts[-1]

    @property
    def waiting(self) -> list[EmbeddingJob[Change]]:
        return [job for job in self.jobs if not job.sent and not job.dropped]

    @property
    def in_flight(self) -> list[EmbeddingJob[Change]]:
        return [job for job in self.jobs if job.sent and not job.is_done]

    def send(self, count: int = 1) -> list[EmbeddingJob[Change]]:
        """Put the first `count` waiting jobs into a request."""
        sent = self.waiting[:count]
        for job in sent:
            job.sent = True
        return sent

    def embed(self, job: EmbeddingJob[Change], *, is_repaired: bool = False) -> None:
        """Complete a job with a vector that shows its text; refuse "bad" unless repaired."""
        if job.text == "bad" and not is_repaired:
            job.refuse("it is bad")
        else:
            model = "f" if self.other_space else "m"
            job.complete(f"[{job.text}]".encode(), model, other_space=self.other_space)

    def embed_all(self, *, is_repaired: bool = False) -> None:
        self.send(len(self.jobs))
        for job in self.in_flight:
            self.embed(job, is_repaired=is_repaired)


class ManualWindow:
    """The logic of a bucket with everything that it needs."""

    def __init__(
        self,
        *,
        delete_rows: bool = False,
        snapshot: bytes | None = None,
        shared: bool = False,
        rules: TextRules | None = None,
        flush_after_s: float = FLUSH_AFTER_S,
        halt_timeout_s: float = HALT_TIMEOUT_S,
    ) -> None:
        self.batcher = ManualBatcher(rules)
        self.tracker = OffsetTracker(shared=shared)
        self.metrics = Metrics()
        self.step = WindowStep(
            self.batcher,
            self.tracker,
            self.metrics,
            Shutdown(exit_process=_exit),
            OutputCounts(vector=2, delete=1),
            delete_rows,
            flush_after_s=flush_after_s,
            halt_timeout_s=halt_timeout_s,
        )
        self.logic: Window = self.step(snapshot)

    def take(self, *changes: Change) -> list[Outcome]:
        """Pass changes to the step, as the source and the filter do."""
        if not self.tracker.shared:
            self.tracker.open(change.record for change in changes)
        return list(chain.from_iterable(self.logic.on_batch([list(changes)])[0]))

    def finished(self, *, is_repaired: bool = False) -> list[Outcome]:
        """Embed all pages and return what the step emits."""
        self.batcher.embed_all(is_repaired=is_repaired)
        return self.emitted()

    def emitted(self) -> list[Outcome]:
        return list(chain.from_iterable(self.logic.on_notify()[0]))

    def counts(self) -> dict[str, int]:
        """Return the number of events by outcome."""
        samples = next(iter(self.metrics.events.collect())).samples
        counts: dict[str, int] = {}
        for sample in samples:
            if sample.name.endswith("_total") and sample.value:
                outcome = sample.labels["outcome"]
                counts[outcome] = counts.get(outcome, 0) + int(sample.value)
        return counts

    def restarted(self) -> ManualWindow:
        """Return a new process that resumes from this one's snapshot."""
        return ManualWindow(
            delete_rows=self.step.delete_rows,
            snapshot=self.logic.snapshot(),
            flush_after_s=self.step.flush_after_s,
        )


class ProcessEndedError(Exception):
    """The step ends the process."""


def _exit(code: int) -> None:
    raise ProcessEndedError(code)


def change(
    page_id: str = "p",
    body: str | None = "text",
    *,
    at: int,
    op: Op | None = None,
    written: int | None = None,
    partition: int = 0,
    replay: bool = False,
) -> Change:
    """Return a change whose record is at offset `at`; a delete without a body."""
    origin = f"cdc.pages:{partition}:{at}" if replay else None
    offset = at + 1000 if replay else at
    record = Record("cdc.pages", partition, offset, 1000 + at, b"key", b"value", 0, origin)
    version = Version(written, 1000 + at, partition, ANY_ERA if replay else 0, at)
    return Change(record, page_id, op or ("d" if body is None else "u"), body, version)


def texts(outcomes: Iterable[Outcome]) -> list[str]:
    """Return outcomes as text: `page=[text]`, `page=gone`, or the offset and the reason."""
    short = []
    for outcome in outcomes:
        if isinstance(outcome, DeadLetter):
            short.append(f"{outcome.record.offset} {outcome.reason}")
        elif isinstance(outcome, PageVector):
            shown = "gone" if outcome.vector is None else outcome.vector.decode()
            short.append(f"{outcome.page_id}={shown}")
    return short
