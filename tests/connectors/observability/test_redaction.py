"""Redactor are struck out of any text, and words that merely resemble them stay."""

import pytest

from connectors.observability.redaction import Redactor


@pytest.mark.parametrize(
    ("secret", "text", "left"),
    [
        ("s3cret-1", "asked with s3cret-1.", "asked with ***."),
        ("s3cret-1", "http://u:s3cret-1@host", "http://u:***@host"),
        ("s3cret-1", '{"token":"s3cret-1"}', '{"token":"***"}'),
        ("s3cret", "Bearer_s3cret_", "Bearer_***_"),
        ("#pass#", "x#pass#x", "x***x"),
        ("cassandra", "cassandra: wrong password", "***: wrong password"),
        ("cassandra", "org.cassandracluster of Cassandra", "org.cassandracluster of Cassandra"),
        ("page", "page_vectors", "***_vectors"),
        ("page", "3 pages", "3 pages"),
        ("a-long-secret-1", "xa-long-secret-1x", "x***x"),
        ("t", "the test", "the test"),
        ("", "the test", "the test"),
        ("[(s3cret", "[(s3cret", "***"),
    ],
)
def test_a_secret_is_struck_out_but_no_part_of_another_word(secret, text, left):
    assert Redactor([secret]).redact(text) == left


def test_of_secrets_that_contain_each_other_the_longest_is_struck_out():
    assert Redactor(["s3cret-1", "s3cret-1-longer"]).redact("s3cret-1-longer") == "***"


def test_secrets_show_themselves_to_nobody():
    assert "s3cret" not in repr(Redactor(["s3cret-1"]))
