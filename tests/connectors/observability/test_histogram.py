"""Observed on one thread: what it shows is what prometheus_client's own would."""

from __future__ import annotations

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from connectors.observability.histogram import Histogram

BOUNDS = (0.001, 0.0025, 1, 300)


def samples(registry: CollectorRegistry) -> list[tuple[str, dict[str, str], float]]:
    text = generate_latest(registry).decode()
    families = list(text_string_to_metric_families(text))
    assert [family.type for family in families if not family.name.endswith("_created")] == [
        "histogram"
    ]
    return [
        (sample.name, sample.labels, sample.value)
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["rag", 'a "b"']),
            st.one_of(st.sampled_from([0.0, *BOUNDS]), st.floats(0, 1000)),
        ),
        max_size=20,
    )
)
def test_it_shows_what_prometheus_client_s_own_does(values):
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("seconds", "Time.", "stage", BOUNDS, ours)
    model = prometheus_client.Histogram(
        "seconds", "Time.", ["stage"], buckets=BOUNDS, registry=theirs
    )
    for stage, value in values:
        histogram.labels(stage).observe(value)
        model.labels(stage).observe(value)
    assert samples(ours) == samples(theirs)
