from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.embedders.text_rules import TextRules


@given(st.text(), st.text(), st.booleans())
def test_a_prepared_text_is_prefix_and_body_in_lower_case_if_required(prefix, body, lowercase):
    rules = TextRules("m", prefix=prefix, lowercase=lowercase)
    assert rules.prepare(body) == ((prefix + body).lower() if lowercase else prefix + body)


def test_a_fingerprint_depends_on_every_rule_and_the_text():
    rules = [
        TextRules("m"),
        TextRules("n"),
        TextRules("m", prefix="p"),
        TextRules("m", lowercase=True),
        TextRules("m", long_pages="truncate"),
        TextRules("mp"),
    ]
    texts = ["", "a", "A", "pa", "\x00", "\ud800"]
    prints = [rule.fingerprint(text) for rule in rules for text in texts]
    assert len(set(prints)) == len(prints)
    assert {len(fingerprint) for fingerprint in prints} == {16}


def test_a_fingerprint_is_the_same_in_every_process():
    known = TextRules("nomic-embed-text", prefix="search_document: ").fingerprint("A page.")
    assert known.hex() == "74a7d56c5130654a66b308a0c9c148c6"
