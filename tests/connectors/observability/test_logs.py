"""The log: one readable line for each event, without secrets, whatever the facts contain."""

import json
import logging
import sys

import pytest
import structlog

from connectors.observability import logs


@pytest.fixture(autouse=True)
def restored():
    handlers = logging.getLogger().handlers[:]
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(False)


def test_a_line_contains_its_logger_event_and_facts_in_order(capsys):
    logs.configure()
    logs.get("stargate").info("Upsert OK", count=3, pages="1,2,3")
    line = capsys.readouterr().err
    assert line[9:].split() == ["info", "stargate", "Upsert", "OK", "count=3", "pages=1,2,3"]
    assert "\x1b" not in line


def test_a_logger_from_before_the_configuration_follows_it(capsys):
    early = logs.get("stream")
    logs.configure("warning", "json")
    early.info("quiet")
    early.warning("loud")
    assert json.loads(capsys.readouterr().err)["event"] == "loud"


@pytest.mark.parametrize("fmt", ["console", "json"])
def test_text_from_outside_stays_on_its_line(capsys, fmt):
    logs.configure("info", fmt)
    logs.get("stream").error("bad\nevent", page="a\nb\x1b[31m\ud800", empty="", q='quoted "x"')
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "\x1b" not in text


@pytest.mark.parametrize("fmt", ["console", "json"])
def test_secrets_are_redacted_in_every_part_of_a_line(capsys, fmt):
    logs.configure("info", fmt, ["s3cret-1", "s3cret-1-longer", "a"])
    log = logs.get("stream")
    log.warning(
        "sent with s3cret-1",
        url="http://u:s3cret-1@host",
        error=ValueError("s3cret-1-longer"),
        nested={"s3cret-1": ["s3cret-1", 1]},
    )
    try:
        raise RuntimeError("s3cret-1")
    except RuntimeError:
        log.exception("failed")
    logging.getLogger("aiohttp").error("s3cret-1")
    text = capsys.readouterr().err
    assert "s3cret" not in text
    assert "longer" not in text
    assert "sent with ***" in text


def test_warnings_of_libraries_are_logged(capsys):
    logs.configure("info", "json")
    logging.getLogger("aiohttp.server").info("quiet")
    logging.getLogger("aiohttp.server").warning("100%% of %s", "it")
    line = json.loads(capsys.readouterr().err)
    assert (line["logger_name"], line["event"]) == ("aiohttp.server", "100% of it")


def test_a_closed_stderr_stops_nothing(monkeypatch, tmp_path):
    logs.configure()
    closed = (tmp_path / "log").open("w")
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    logs.get("stream").error("lost")


def test_a_secret_that_is_a_word_leaves_other_words_and_the_logger_name(capsys):
    logs.configure("info", "json", ["stargate", "info", "cassandra"])
    logs.get("stargate").info("no cassandra in org.cassandracluster", page="stargates")
    line = json.loads(capsys.readouterr().err)
    assert (line["logger_name"], line["level"]) == ("stargate", "info")
    assert line["event"] == "no *** in org.cassandracluster"
    assert line["page"] == "stargates"
