"""Whether this version can read the snapshots of a recovery store.

Bytewax gives a step its snapshot only when it builds the step. By then the process may have
committed offsets for rows that only a snapshot still holds, so all layouts are checked before
Bytewax opens the store.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from connectors.delivery import sinks
from connectors.kafka import source
from dataflow.graph import RAG_STEP, SOURCE_STEP, STORE_STEP, WINDOW_STEP
from dataflow.startup.uncommitted_epochs import find_resume_epoch, open_read_only
from dataflow.steps import window

LAYOUTS = {
    SOURCE_STEP: source.LAYOUT,
    WINDOW_STEP: window.LAYOUT,
    STORE_STEP: sinks.LAYOUT,
    RAG_STEP: sinks.LAYOUT,
}
"""By step id, without the id of the flow."""

_NEWEST = """
    SELECT step_id, ser_change, max(snap_epoch) FROM snaps
    WHERE snap_epoch < ? AND ser_change IS NOT NULL GROUP BY step_id, state_key
"""


def check_layouts(files: Iterable[Path]) -> None:
    """Check the snapshots that Bytewax will resume from.

    Args:
        files: All partitions of a store.

    Raises:
        IncompatibleRecoveryStoreError: A step's snapshots have another layout.
    """
    files = list(files)
    resume_epoch = find_resume_epoch(files)
    for file in files if resume_epoch is not None else ():
        with closing(open_read_only(file)) as database:
            for step_id, pickled, _ in database.execute(_NEWEST, (resume_epoch,)):
                layout = LAYOUTS.get(step_id.rpartition(".")[2])
                if layout is not None:
                    layout.check(_unpickled(pickled))


def _unpickled(pickled: bytes) -> tuple[object, ...]:
    """Return a snapshot's values; the window step pickles its own, within Bytewax's pickle."""
    snapshot = pickle.loads(pickled)  # noqa: S301 - our own store
    if isinstance(snapshot, bytes):
        snapshot = pickle.loads(snapshot)  # noqa: S301 - the same
    return tuple(snapshot)
