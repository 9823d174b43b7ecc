"""The graph: the only module that connects the steps.

Kafka ─► decode ─► filter ─► window ─┬─► store
           │ undecodable     │       └─► rag
           └─────────────────┴─────────► dead letters

From "filter" on, an item is a bucket with a list: what entered or left the bucket at one time. Each
output picks its own rows from the list, because a step that does so costs more CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source

from connectors.core.buckets import BUCKET_KEYS
from connectors.core.offset_tracker import OffsetTracker
from connectors.core.records import DeadLetter, Outcome, PageVector, Record
from connectors.delivery.outputs import Output, OutputCounts
from connectors.delivery.sinks import DeadLetterSink, VectorSink
from connectors.delivery.write_queue import WriteQueue
from connectors.observability.metrics import Metrics
from connectors.runtime.shutdown import Shutdown
from dataflow.events.decoder import Decoded
from dataflow.steps.decode import Decode
from dataflow.steps.filter import Filter
from dataflow.steps.window import WindowStep

FLOW_ID = "pages"
SOURCE_STEP = "kafka"
WINDOW_STEP = "window"
STORE_STEP = "stargate"  # whatever the store is
RAG_STEP = "rag"
DEAD_LETTERS_STEP = "dead_letters"
"""Flow and step ids are keys of the recovery store: a step whose id changes loses its snapshot."""


@dataclass(frozen=True, slots=True)
class StreamParts:
    """What the graph is built of.

    Attributes:
        source: Reads the topic.
        window: The embedding step.
        outputs: The outputs of a page.
        dead_letters: The dead letters.
        tracker: Where records are settled.
        metrics: Where events are counted.
        shutdown: Ends the process on an error.
    """

    source: Source[Record | Decoded]
    window: WindowStep
    outputs: Sequence[Output]
    dead_letters: WriteQueue[DeadLetter]
    tracker: OffsetTracker
    metrics: Metrics
    shutdown: Shutdown


def build(parts: StreamParts) -> Dataflow:
    """Connect the steps."""
    decode = Decode(parts.tracker, parts.metrics, parts.shutdown)
    keep_changes = Filter(parts.tracker, parts.metrics, parts.shutdown)
    flow = Dataflow(FLOW_ID)
    items = op.input(SOURCE_STEP, flow, parts.source)
    decoded = op.flat_map_batch("decode", items, decode)
    branched = op.branch("is_undecodable", decoded, _is_dead_letter)
    changes = op.flat_map_batch("filter", branched.falses, keep_changes)
    outcomes = op.stateful_batch(WINDOW_STEP, changes, parts.window)
    for output in parts.outputs:
        op.output(output.step_id, outcomes, _vector_sink(output, parts))
    refused = op.filter_map("refused", outcomes, _dead_letters_in)
    undecodable = op.map("by_partition", branched.trues, _by_partition)
    dead_letters = op.merge("all_refused", refused, undecodable)
    op.output(DEAD_LETTERS_STEP, dead_letters, _dead_letter_sink(parts))
    return flow


def _is_dead_letter(item: Decoded | Outcome) -> TypeGuard[DeadLetter]:
    return isinstance(item, DeadLetter)


def _is_row(outcome: Outcome) -> TypeGuard[PageVector]:
    return isinstance(outcome, PageVector)


def _is_upsert(outcome: Outcome) -> TypeGuard[PageVector]:
    """Return whether an outcome is a row with a vector, not that of a deleted page."""
    return isinstance(outcome, PageVector) and outcome.vector is not None


def _dead_letters_in(item: tuple[str, list[Outcome]]) -> tuple[str, list[DeadLetter]] | None:
    bucket, outcomes = item
    dead_letters = [outcome for outcome in outcomes if _is_dead_letter(outcome)]
    return (bucket, dead_letters) if dead_letters else None


def _by_partition(dead_letter: Any) -> tuple[str, list[DeadLetter]]:
    """Assign an undecodable event, which has no page, to a bucket by its partition."""
    return BUCKET_KEYS[dead_letter.record.partition % len(BUCKET_KEYS)], [dead_letter]


def _vector_sink(output: Output, parts: StreamParts) -> VectorSink:
    """Return the sink of an output.

    All outputs of a bucket are in the same process (Bytewax assigns partitions by their names), so
    in a cluster the first output that gets a row opens it there, for all of them.
    """
    tracker, counts = parts.tracker, OutputCounts.of(parts.outputs)

    def received(rows: Sequence[PageVector]) -> None:
        if tracker.shared:
            for row in rows:
                count = counts.delete if row.vector is None else counts.vector
                tracker.receive((row.record,), outputs=count)

    def resumed(rows: Sequence[PageVector]) -> None:
        tracker.resume(row.record for row in rows)

    return VectorSink(
        output.service.name,
        output.write_queue,
        _is_row if output.takes_deletes else _is_upsert,
        received,
        resumed,
        parts.shutdown,
    )


def _dead_letter_sink(parts: StreamParts) -> DeadLetterSink:
    def received(dead_letters: Sequence[DeadLetter]) -> None:
        parts.tracker.receive(dead_letter.record for dead_letter in dead_letters)

    return DeadLetterSink(
        "dead letters", parts.dead_letters, _is_dead_letter, received, parts.shutdown
    )
