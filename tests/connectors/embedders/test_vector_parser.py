from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.embedders.admission import InvalidVectorError, admit
from connectors.embedders.vector_parser import RawVector, parse

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 5)
texts = st.text() | st.sampled_from(["],[", "]]", '"embeddings":[[', '\\"embeddings":[['])
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(texts | st.just("embeddings"), inner, max_size=3)
    ),
    max_leaves=8,
)
vectors = st.lists(st.lists(numbers, max_size=4), max_size=4)
responses = st.fixed_dictionaries({"embeddings": vectors | anything}, optional={"model": texts})


def plain(response: object) -> object:
    """Return what `orjson.loads` returns."""
    if isinstance(response, dict) and isinstance(found := response.get("embeddings"), list):
        values = [item.values if isinstance(item, RawVector) else item for item in found]
        return response | {"embeddings": values}
    return response


@given(responses | anything)
def test_the_result_is_that_of_any_parser(response):
    for body in (orjson.dumps(response), json.dumps(response).encode()):
        assert plain(parse(body)) == orjson.loads(body)


@given(st.text('[]{}",:embdings\\0 ', max_size=30))
def test_any_json_is_parsed_and_anything_else_is_rejected(text):
    body = f'{{"embeddings":[{text}'.encode()
    try:
        expected = orjson.loads(body)
    except orjson.JSONDecodeError:
        with pytest.raises(orjson.JSONDecodeError):
            parse(body)
    else:
        assert plain(parse(body)) == expected


@pytest.mark.parametrize(
    "body",
    [
        b'{"embeddings":[[1],2,[3]]}',
        b'{"embeddings":[[1,[2]],[3]]}',
        b'{"inner":{"embeddings":[[1],[2]]}}',
        b'{"embeddings":[[1]],"embeddings":[[2]]}',
        b'[{"embeddings":[[1],[2]]}]',
        b'{"embeddings":[["],["],[1]]}',
        b'{"\\"embeddings":[[1]],"x":2}',
        b'{"embeddings":[]}',
        b'{"embeddings":[[1]],"embeddings":[]}',
        b'{"x":{"embeddings":[[1]]},"embeddings":[]}',
        b'{"\\"embeddings":[[1]],"embeddings":[]}',
        b'{"embeddings":[[1]],"\\u0065mbeddings":[]}',
    ],
)
def test_another_layout_is_parsed_as_a_whole(body):
    assert plain(parse(body)) == orjson.loads(body)


def test_invalid_json_in_the_middle_is_rejected():
    with pytest.raises(orjson.JSONDecodeError):
        parse(b'{"x":{"embeddings":[[1,0]2]},"embeddings":[]}')


def test_vectors_of_unit_length_keep_their_text():
    one, other = b"[6e-1,0.80]", b"[-1, 0]"
    response = parse(b'{"model":"m","embeddings":[' + one + b"," + other + b'],"count":2}')
    assert isinstance(response, dict)
    assert [admit(vector, 2) for vector in response.pop("embeddings")] == [one, other]
    assert response == {"model": "m", "count": 2}


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"[true,0]", "true or false"), (b"[1,false]", "true or false"), (b"[null,1]", "null")],
)
def test_values_that_are_not_numbers_are_found_in_the_text(text, reason):
    with pytest.raises(InvalidVectorError, match=reason):
        admit(RawVector(orjson.loads(text), text), 2)


def test_a_vector_of_another_length_is_normalised():
    assert admit(RawVector([3, 4], b"[3,4]"), 2) == b"[0.6,0.8]"


@pytest.mark.parametrize("zero", [b"0." + b"0" * 5000, b" " * 5000 + b"0.0", b"1e-999999999"])
def test_padded_texts_are_written_again(zero):
    text = b"[1.0," + zero + b"]"
    admitted = admit(RawVector(orjson.loads(text), text), 2)
    assert admitted == (b"[1.0,0.0]" if len(zero) > 50 else text)
