"""The hashed n-grams: deterministic, unit length, and similar for shared words."""

from __future__ import annotations

import array
import math

from hypothesis import given
from hypothesis import strategies as st

from gibsey_embedder.demo.checks import cosine
from gibsey_embedder.demo.pages import stdlib_pages
from gibsey_embedder.demo.report import nearest
from gibsey_embedder.fakes.ngrams import embed_text


@given(st.text())
def test_every_text_has_a_unit_vector_of_short_numbers(text: str) -> None:
    vector = embed_text(text)
    assert len(vector) == 768
    assert abs(math.sqrt(math.fsum(x * x for x in vector)) - 1) < 1e-6
    assert vector == embed_text(text)
    assert vector == [float(f"{x:.7f}") for x in array.array("f", vector)]


def test_texts_with_shared_words_are_similar() -> None:
    question = embed_text("How do I decode a JSON document?")
    near = embed_text("Decoding JSON: the document is decoded into objects.")
    far = embed_text("A window manager draws buttons on the screen.")
    assert cosine(question, near) > 0.3 > cosine(question, far)


def test_vectors_are_not_case_sensitive() -> None:
    assert embed_text("JSON Decoder") == embed_text("json decoder")


def test_the_pages_are_unique_ordered_and_found_by_a_question() -> None:
    pages = stdlib_pages()
    assert len(pages) > 1000
    assert len({page.page_id for page in pages}) == len(pages)
    assert stdlib_pages(10) == stdlib_pages(10)
    assert max(len(page.body) for page in pages) > 10_000
    chosen = [
        page for page in pages if page.page_id.startswith(("json.", "zipfile.", "threading."))
    ]
    vectors = {page.page_id: embed_text(page.body) for page in chosen}
    best = nearest(embed_text("wait until all threads have reached the barrier"), vectors)
    assert any("Barrier" in page_id for _, page_id in best)
