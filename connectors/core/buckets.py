"""The buckets among which the pages are distributed."""

from __future__ import annotations

import zlib

BUCKETS = 16
"""How many buckets there are. This number and the keys are part of the recovery store's layout: a
change of either must raise `dataflow.steps.window.STATE_VERSION`."""

BUCKET_KEYS = (
    "00-35n",
    "01-yf",
    "02-2jl",
    "03-45f",
    "04-41s",
    "05-2wu",
    "06-14v",
    "07-8in",
    "08-fi",
    "09-1an",
    "10-2p0",
    "11-5x5",
    "12-2eu",
    "13-6wl",
    "14-1x5",
    "15-5m3",
)
"""Bytewax assigns a bucket of a step to a worker by the hash of its key, and a bucket of an output
by the key's position in the sorted keys. Of these keys the hash modulo 5040 is the position, and 1
to 10, 12, 14, 15 and 16 divide 5040. With that many workers, a bucket's rows therefore stay on one
worker, and the buckets are spread evenly (`tests/dataflow/test_graph.py`). Together
with the lists between the steps, this saves 7 % of the CPU at `-w 4` and 1 % at `-w 1`
(`make bench ARGS="--only free"`)."""


def bucket_of(page_id: str) -> str:
    """Return the key of a page's bucket: the same in every process and after every restart."""
    return BUCKET_KEYS[zlib.crc32(page_id.encode()) % BUCKETS]
