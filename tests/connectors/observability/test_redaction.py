"""Secrets are removed from any text. Words that resemble them stay."""

import pytest

from connectors.observability.redaction import Redactor


@pytest.mark.parametrize(
    ("secret", "text", "redacted"),
    [
        ("s3cret-1", "sent with s3cret-1.", "sent with ***."),
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
def test_a_secret_is_redacted_but_no_part_of_another_word(secret, text, redacted):
    assert Redactor([secret]).redact(text) == redacted


def test_the_longest_of_overlapping_secrets_is_redacted():
    assert Redactor(["s3cret-1", "s3cret-1-longer"]).redact("s3cret-1-longer") == "***"


def test_the_repr_of_a_redactor_contains_no_secret():
    assert "s3cret" not in repr(Redactor(["s3cret-1"]))
