"""From a write to a real Cassandra, by a real Debezium, to the store and the RAG service.

What must be in the store is asked of Cassandra itself: its own newest-wins rule is the model.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gibsey_embedder.fakes.rag import Rag
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.eventually import eventually
from tests.flow.worker import Worker
from tests.real.pages import Pages
from tests.real.servers import Connector, given
from tests.real.stream import Arrivals, Embedder, RealStream, Topic, percentiles

pytestmark = [pytest.mark.real, pytest.mark.debezium, pytest.mark.timeout(180)]

WRITES = 100
MEDIAN_S, P99_S = 2.0, 5.0
PACE_S = 0.1
MARKERS = 12
"""Pages written last: some in each partition, so that all before them was read."""
HOUR_US = 3_600_000_000
WITH_SCHEMA = {"schema", "payload"}


@pytest.fixture
def pages() -> Iterator[Pages]:
    with Pages(given("TEST_CQL_PYTHON"), given("TEST_CQL")) as pages:
        yield pages


@pytest.fixture
def topic(kafka_broker: str) -> Iterator[Topic]:
    """Debezium's topic, which stays, and one for dead letters."""
    topic = Topic(kafka_broker, given("TEST_DEBEZIUM_TOPIC"))
    topic.make_letters()
    yield topic
    topic.remove([topic.letters])


@pytest.fixture
def stream(bare_stream: RealStream) -> RealStream:
    """A stream over Debezium's topic."""
    return bare_stream


@pytest.fixture
def connector() -> Iterator[Connector]:
    """The connector, to start again with other properties; it has its usual ones after the test."""
    connector = Connector(given("TEST_DEBEZIUM_RESTART"))
    yield connector
    connector.restart()


@pytest.fixture
def changed_stream(
    tmp_path: Path, kafka_broker: str, run: str, embedder: Embedder, stargate: Stargate, rag: Rag
) -> Iterator[RealStream]:
    """A stream from the topic of a connector whose `topic.prefix` is this run's."""
    topic = Topic(kafka_broker, f"{run}.gibsey.pages")
    topic.make()
    topic.make_letters()
    stream = RealStream(tmp_path, topic, embedder, stargate, rag)
    yield stream
    stream.end()
    topic.remove()


@pytest.fixture
def run() -> str:
    """Sets this test's page ids apart from those of all others."""
    return uuid.uuid4().hex[:8]


def start(stream: RealStream, workers: int = 2) -> Worker:
    return stream.start(workers, ON_DELETE="delete")


def is_snapshot(row: dict[str, Any]) -> bool:
    return row["source"]["snapshot"] == "true"


def wait_as_in(pages: Pages, stream: RealStream, run: str) -> None:
    """Wait until all that was written has been read, and the store is as Cassandra is."""
    markers = [f"marker {number} {run}" for number in range(MARKERS)]
    for marker in markers:
        pages.insert(marker, f"The end: {marker}.")
    stream.texts = pages.texts([*stream.texts, *markers])
    stream.wait_complete()
    stream.wait_committed()
    assert not list(stream.missing())


def write_all_cases(pages: Pages, stream: RealStream, run: str) -> None:
    """Run the statements of all cases, each on pages of its own."""
    now = time.time_ns() // 1000
    times = {"past": now - HOUR_US, "older": now - 2 * HOUR_US, "future": now + HOUR_US}
    times["later"] = times["future"] + 1
    for name, statements in CASES.items():
        page, beside = f"{name} {run}", f"beside {name} {run}"
        stream.texts |= {page: None, beside: None}
        for statement in statements:
            pages.run(statement.format(id=page, p=f"'{page}'", q=f"'{beside}'", **times))


CASES: dict[str, list[str]] = {
    "insert": ["INSERT INTO pages (page_id, body, title) VALUES ({p}, 'A new page.', 'One')"],
    "update": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Before.')",
        "UPDATE pages SET body = 'After.' WHERE page_id = {p}",
    ],
    "update that inserts": ["UPDATE pages SET body = 'Made by an update.' WHERE page_id = {p}"],
    "title alone": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'The body stays.')",
        "UPDATE pages SET title = 'Another title' WHERE page_id = {p}",
    ],
    "body set to null": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Goes.')",
        "UPDATE pages SET body = null WHERE page_id = {p}",
    ],
    "insert of null over a body": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Goes.')",
        "INSERT INTO pages (page_id, body) VALUES ({p}, null)",
    ],
    "column deleted": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Goes.')",
        "DELETE body FROM pages WHERE page_id = {p}",
    ],
    "column deleted and back": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Goes.')",
        "DELETE body FROM pages WHERE page_id = {p}",
        "UPDATE pages SET body = 'Is back.' WHERE page_id = {p}",
    ],
    "blank": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Goes.')",
        "UPDATE pages SET body = '  ' WHERE page_id = {p}",
    ],
    "row deleted": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Goes.')",
        "DELETE FROM pages WHERE page_id = {p}",
    ],
    "row deleted and back": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Goes.')",
        "DELETE FROM pages WHERE page_id = {p}",
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Is back.')",
    ],
    "the same text again after a delete": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'The same.')",
        "DELETE FROM pages WHERE page_id = {p}",
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'The same.')",
    ],
    "delete of what never was": ["DELETE FROM pages WHERE page_id = {p}"],
    "time to live": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'For a day.') USING TTL 86400"
    ],
    "time to live, updated": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'For ever.')",
        "UPDATE pages USING TTL 86400 SET body = 'For a day.' WHERE page_id = {p}",
    ],
    "JSON": ["""INSERT INTO pages JSON '{{"page_id": "{id}", "body": "As JSON."}}'"""],
    "only if absent": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'First.') IF NOT EXISTS",
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Second.') IF NOT EXISTS",
    ],
    "only if unchanged": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'First.') IF NOT EXISTS",
        "UPDATE pages SET body = 'Second.' WHERE page_id = {p} IF body = 'First.'",
        "UPDATE pages SET body = 'Third.' WHERE page_id = {p} IF body = 'First.'",
    ],
    "batch": [
        (
            "BEGIN BATCH INSERT INTO pages (page_id, body) VALUES ({p}, 'In a batch.'); "
            "INSERT INTO pages (page_id, body) VALUES ({q}, 'Beside it.'); APPLY BATCH"
        )
    ],
    "unlogged batch": [
        "INSERT INTO pages (page_id, body) VALUES ({q}, 'Goes.')",
        (
            "BEGIN UNLOGGED BATCH UPDATE pages SET body = 'Stays.' WHERE page_id = {p}; "
            "DELETE FROM pages WHERE page_id = {q}; APPLY BATCH"
        ),
    ],
    "batch on one page": [
        (
            "BEGIN BATCH INSERT INTO pages (page_id, body) VALUES ({p}, 'Alpha.'); "
            "UPDATE pages SET body = 'Beta.' WHERE page_id = {p}; "
            "UPDATE pages SET title = 'Gamma' WHERE page_id = {p}; APPLY BATCH"
        )
    ],
    "replaced in a batch": [
        "INSERT INTO pages (page_id, body, title) VALUES ({p}, 'Goes.', 'Goes too')",
        (
            "BEGIN BATCH DELETE FROM pages USING TIMESTAMP {future} WHERE page_id = {p}; "
            "UPDATE pages USING TIMESTAMP {later} SET body = 'Again.' WHERE page_id = {p}; "
            "APPLY BATCH"
        ),
    ],
    "past update": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Now.')",
        "UPDATE pages USING TIMESTAMP {past} SET body = 'Then.' WHERE page_id = {p}",
    ],
    "past insert": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Now.')",
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Then.') USING TIMESTAMP {past}",
    ],
    "past delete": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Now.')",
        "DELETE FROM pages USING TIMESTAMP {past} WHERE page_id = {p}",
    ],
    "past delete of the column": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Now.')",
        "DELETE body FROM pages USING TIMESTAMP {past} WHERE page_id = {p}",
    ],
    "past first, then older": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Then.') USING TIMESTAMP {past}",
        "UPDATE pages USING TIMESTAMP {older} SET body = 'Even before.' WHERE page_id = {p}",
    ],
    "insert older than the delete before it": [
        "DELETE FROM pages WHERE page_id = {p}",
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Then.') USING TIMESTAMP {past}",
    ],
    "past beyond all times": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'Some time.') USING TIMESTAMP 1",
        "UPDATE pages USING TIMESTAMP 0 SET body = 'Before all.' WHERE page_id = {p}",
        "DELETE body FROM pages USING TIMESTAMP -5 WHERE page_id = {p}",
    ],
    "future": [
        "INSERT INTO pages (page_id, body) VALUES ({p}, 'To come.') USING TIMESTAMP {future}",
        "UPDATE pages SET body = 'Now.' WHERE page_id = {p}",
    ],
}

ODD_IDS = [
    "é/ü 漢 {}",
    "\U0001f469\u200d\U0001f4bb {}",
    "cafe\u0301 {}",
    "café {}",
    "مرحبا {}",
    " {} ",
    "'{}'",
    "it's {}",
    '"{}"',
    "{}/..",
    "{}?a=b&c#d",
    "{}%2F",
    "a\nb\t{}",
    "{};--",
    "{}.",
]


def test_the_store_ends_as_cassandra_does_whatever_was_written(
    pages: Pages, stream: RealStream, run: str
):
    start(stream)
    write_all_cases(pages, stream, run)
    wait_as_in(pages, stream, run)
    kept = sum(text is not None for text in stream.texts.values())
    assert kept > len(CASES) / 2
    assert not [letter for letter in stream.dead_letters() if run in str(letter)]


def test_page_ids_arrive_as_they_are(pages: Pages, stream: RealStream, run: str):
    start(stream)
    for odd in ODD_IDS:
        pages.insert(odd.format(run), f"The page with the id {odd!r}.")
        stream.texts[odd.format(run)] = None
    wait_as_in(pages, stream, run)
    assert None not in stream.texts.values()
    for odd in ODD_IDS:
        pages.delete(odd.format(run))
    wait_as_in(pages, stream, f"{run} again")
    assert not any(odd.format(run) in stream.stargate.vectors.rows for odd in ODD_IDS)


def test_random_histories_with_times_of_their_own_end_as_in_cassandra(
    pages: Pages, stream: RealStream, run: str
):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    source = random.Random(seed)
    past = time.time_ns() // 1000 - HOUR_US
    times = source.sample(range(1_000_000), 240)
    statements = [
        "INSERT INTO pages (page_id, body) VALUES ('{page}', '{text}') USING TIMESTAMP {at}",
        "UPDATE pages USING TIMESTAMP {at} SET body = '{text}' WHERE page_id = '{page}'",
        "UPDATE pages USING TIMESTAMP {at} SET title = '{text}' WHERE page_id = '{page}'",
        "UPDATE pages USING TIMESTAMP {at} SET body = null WHERE page_id = '{page}'",
        "DELETE body FROM pages USING TIMESTAMP {at} WHERE page_id = '{page}'",
        "DELETE FROM pages USING TIMESTAMP {at} WHERE page_id = '{page}'",
    ]
    worker = start(stream)
    for number, at in enumerate(times):
        if number == len(times) // 2:
            stream.wait_rows(1)
            worker.kill()
            worker = start(stream, workers=3)
        page = f"page {source.randrange(30)} {run}"
        statement = source.choices(statements, [4, 4, 2, 1, 1, 2])[0]
        pages.run(statement.format(page=page, text=f"change {number} of {page}", at=past + at))
        stream.texts[page] = None
    wait_as_in(pages, stream, run)


def test_rows_that_were_there_before_the_connector_are_read_with_its_schemas_on(
    pages: Pages, connector: Connector, tmp_path: Path, changed_stream: RealStream, run: str
):
    """The snapshot reads them, the commit log repeats them, and live writes follow."""
    pages.run("TRUNCATE pages")  # of a row with a time to live its snapshot dies
    there = {f"{name} {run}": body for name, body in {"one": "A page.", "empty": ""}.items()}
    for page, body in there.items():
        pages.insert(page, body)
    pages.run(f"INSERT INTO pages (page_id, title) VALUES ('bare {run}', 'A title')")
    pages.insert(f"gone {run}", "Is deleted before.")
    pages.delete(f"gone {run}")
    (tmp_path / "offsets").mkdir()
    connector.restart(
        "topic.prefix=" + run,
        f"offset.backing.store.dir={tmp_path / 'offsets'}",
        "key.converter.schemas.enable=true",
        "value.converter.schemas.enable=true",
    )
    stream = changed_stream
    start(stream)
    stream.texts = dict.fromkeys([*there, f"bare {run}", f"gone {run}"])
    wait_as_in(pages, stream, run)
    assert f"one {run}" in stream.stargate.vectors.rows
    rows = [event["payload"] for event in stream.topic.read() if event.keys() == WITH_SCHEMA]
    read = [row["after"]["page_id"]["value"] for row in rows if is_snapshot(row)]
    assert {f"one {run}", f"bare {run}"} <= set(read)
    write_all_cases(pages, stream, run)
    wait_as_in(pages, stream, f"{run} live")


def test_an_insert_without_a_body_is_a_dead_letter(pages: Pages, stream: RealStream, run: str):
    start(stream)
    pages.run(f"INSERT INTO pages (page_id, title) VALUES ('bare {run}', 'A title')")
    wait_as_in(pages, stream, run)
    letters = [letter for letter in stream.dead_letters() if f"bare {run}" in str(letter)]
    assert [reason for reason, _ in letters] == ["undecodable"]


def test_a_page_that_expires_keeps_its_vector_because_no_event_tells_of_it(
    pages: Pages, stream: RealStream, run: str
):
    start(stream)
    pages.run(
        f"INSERT INTO pages (page_id, body) VALUES ('brief {run}', 'For a moment.') USING TTL 1"
    )
    eventually(lambda: pages.texts([f"brief {run}"])[f"brief {run}"] is None, 10)
    wait_as_in(pages, stream, run)
    assert f"brief {run}" in stream.stargate.vectors.rows


def test_a_write_to_the_database_reaches_the_rag_service_within_seconds(
    pages: Pages, stream: RealStream, run: str, show: Callable[[str], None]
):
    start(stream)
    wait_as_in(pages, stream, run)
    wrote: dict[str, float] = {}
    with Arrivals(stream, rows=False) as arrivals:
        for number in range(WRITES):
            page = f"live {number} {run}"
            wrote[page] = time.monotonic()
            pages.update(page, f"Written to the database at this moment: {number}.")
            time.sleep(PACE_S)
        took = [arrivals.wait(page) - began for page, began in wrote.items()]
    median, p99 = percentiles(took)
    show(f"from {WRITES} database writes to /refresh: p50 {median:.3f} s, p99 {p99:.3f} s")
    assert median < MEDIAN_S
    assert p99 < P99_S
