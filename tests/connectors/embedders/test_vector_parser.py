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
answers = st.fixed_dictionaries({"embeddings": vectors | anything}, optional={"model": texts})


def plain(answer: object) -> object:
    """As `orjson.loads` has it."""
    if isinstance(answer, dict) and isinstance(found := answer.get("embeddings"), list):
        values = [item.values if isinstance(item, RawVector) else item for item in found]
        return answer | {"embeddings": values}
    return answer


@given(answers | anything)
def test_it_finds_what_any_parser_finds(answer):
    for body in (orjson.dumps(answer), json.dumps(answer).encode()):
        assert plain(parse(body)) == orjson.loads(body)


@given(st.text('[]{}",:embdings\\0 ', max_size=30))
def test_what_is_no_json_is_refused_and_all_else_parsed_whatever_it_looks_like(text):
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
def test_what_is_laid_out_otherwise_is_parsed_as_a_whole(body):
    assert plain(parse(body)) == orjson.loads(body)


def test_what_is_no_json_in_the_middle_is_refused():
    with pytest.raises(orjson.JSONDecodeError):
        parse(b'{"x":{"embeddings":[[1,0]2]},"embeddings":[]}')


def test_vectors_of_unit_length_are_passed_on_in_their_own_text():
    one, other = b"[6e-1,0.80]", b"[-1, 0]"
    answer = parse(b'{"model":"m","embeddings":[' + one + b"," + other + b'],"count":2}')
    assert isinstance(answer, dict)
    assert [admit(vector, 2) for vector in answer.pop("embeddings")] == [one, other]
    assert answer == {"model": "m", "count": 2}


@pytest.mark.parametrize(
    ("text", "word"),
    [(b"[true,0]", "true or false"), (b"[1,false]", "true or false"), (b"[null,1]", "null")],
)
def test_words_among_the_numbers_are_seen_in_the_text(text, word):
    with pytest.raises(InvalidVectorError, match=word):
        admit(RawVector(orjson.loads(text), text), 2)


def test_a_vector_of_another_length_is_brought_to_one():
    assert admit(RawVector([3, 4], b"[3,4]"), 2) == b"[0.6,0.8]"


@pytest.mark.parametrize("zero", [b"0." + b"0" * 5000, b" " * 5000 + b"0.0", b"1e-999999999"])
def test_padded_texts_are_written_anew(zero):
    text = b"[1.0," + zero + b"]"
    admitted = admit(RawVector(orjson.loads(text), text), 2)
    assert admitted == (b"[1.0,0.0]" if len(zero) > 50 else text)
