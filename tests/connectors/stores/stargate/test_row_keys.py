from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from connectors.stores.stargate.row_keys import path_segment

BASE = "http://stargate:8082/v2/keyspaces/gibsey/page_vectors/"
ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
awkward = st.text(
    st.sampled_from(list("'\" .%/\\?#;&+:@\t\r\n\x1f\x85\xa0\u2028\u3000a")), min_size=1
)


def read_by_stargate(segment: str) -> str:
    """A model of Stargate: decode, trim as Java does, strip an outer pair of quotes."""
    value = unquote(segment, errors="strict").strip("".join(map(chr, range(0x21))))
    if value.startswith("'") and value.endswith("'"):
        value = value[1:-1].replace("''", "'")
    return value


@given(ids | awkward)
@example("..")
@example(".")
@example("'")
@example("''")
@example("'a'")
@example("' '")
@example(" ")
@example("\x01")
@example("\ta\n")
def test_stargate_reads_back_the_exact_id(page_id):
    assert read_by_stargate(path_segment(page_id)) == page_id


@given(ids | awkward)
@example("../../system/peers")
@example("a?raw=true")
@example("a\r\nX-Cassandra-Token: other")
def test_no_id_leaves_its_segment_or_breaks_a_line(page_id):
    assert re.fullmatch(r"[A-Za-z0-9._~%-]+", path_segment(page_id))


@given(ids | awkward)
@example("..")
@example(".")
def test_the_path_is_one_segment_even_for_a_library_that_removes_dot_segments(page_id):
    url = URL(BASE).joinpath(path_segment(page_id), encoded=True)
    folded = URL(BASE + path_segment(page_id))
    assert len(url.raw_parts) == len(folded.raw_parts) == 6
    assert folded.raw_parts[:-1] == ("/", "v2", "keyspaces", "gibsey", "page_vectors")
    assert not folded.query_string
    assert not folded.fragment


@given(ids | awkward, ids | awkward)
def test_two_ids_never_share_a_row(one, other):
    assert (path_segment(one) == path_segment(other)) == (one == other)


@pytest.mark.parametrize(
    ("page_id", "segment"),
    [
        ("42", "42"),
        ("a/b", "a%2Fb"),
        ("it's", "it%27s"),
        ('"a"', "%22a%22"),
        ("%2F", "%252F"),
        ("in side", "in%20side"),
        ("tab\tinside", "tab%09inside"),
        ("Straße", "Stra%C3%9Fe"),
        ("...", "..."),
        ("rows", "rows"),
        (".", "%27.%27"),
        ("..", "%27..%27"),
        (" x", "%27%20x%27"),
        ("x\u00a0", "%27x%C2%A0%27"),
        ("'", "%27%27%27%27"),
        ("'a'", "%27%27%27a%27%27%27"),
        ("it's'", "%27it%27%27s%27%27%27"),
    ],
)
def test_only_ids_that_stargate_would_change_are_quoted(page_id, segment):
    assert path_segment(page_id) == segment


def test_a_lone_surrogate_cannot_be_encoded():
    with pytest.raises(UnicodeEncodeError):
        path_segment("\ud800")
