"""The faults of services by name: functions that inject and remove them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from gibsey_embedder.fakes.server import FakeServer
from tests.eventually import eventually
from tests.flow.stream import DONE_S, Stream
from tests.flow.worker import Worker

REPORT_TIMEOUT_S = 150.0
"""A service that hangs is reported after its timeout: 30 s, or 60 s for the embedder."""

SHORT_LIMITS = """
import connectors.embedders.batching.throughput, connectors.stores.stargate.session
connectors.embedders.batching.throughput.SLOWEST_START_S = 4.0
connectors.stores.stargate.session.StargateSession.__init__.__defaults__ = (4.0, None)
"""
"""Code that runs before the program and sets the timeouts to 4 s."""

Undo = Callable[[], object]
InjectFault = Callable[[FakeServer], Undo]


def _refuse(service: FakeServer) -> Undo:
    service.refuse()
    return service.accept


def _status(code: int, **headers: str) -> InjectFault:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}

    def inject(service: FakeServer) -> Undo:
        service.faults.status(code, b'{"error":"out of order"}', fields)
        return service.faults.clear

    return inject


def _fault(name: str, *arguments: int) -> InjectFault:
    def inject(service: FakeServer) -> Undo:
        getattr(service.faults, name)(*arguments)
        return service.faults.clear

    return inject


FAULTS: dict[str, InjectFault] = {
    "refused": _refuse,
    "hanging": _fault("hang"),
    "429": _status(429, Retry_After="1"),
    "429 with a date": _status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
    "500": _status(500),
    "503": _status(503),
    "cut": _fault("cut"),
    "dropped": _fault("drop"),
    "garbage": _fault("garbage"),
    "HTML": _fault("html"),
    "HTML 502": _fault("html", 502),
    "redirect": _status(302, Location="http://127.0.0.1:9/login"),
    "401": _status(401),
    "404": _status(404),
}

WRONG_VECTORS = ("few", "many", "short", "nan", "nan_literal", "infinity", "zero", "rejected")
"""The quirks with which an embedder returns only wrong vectors."""


def fake_of(stream: Stream, name: str) -> FakeServer:
    """Return the fake of a service."""
    return {"embedder": stream.ollama, "stargate": stream.stargate, "rag": stream.rag}[name]


def wait_reported(worker: Worker, service: str) -> None:
    """Wait until the log and the status port report a service."""
    worker.wait_for(rf"waiting +service={service} ", REPORT_TIMEOUT_S)
    eventually(lambda: service in worker.stalled(), DONE_S)


def faults_of(
    stream: Stream, name: str, faults: Iterable[str] = FAULTS
) -> dict[str, Callable[[], Undo]]:
    """Return functions that inject the faults of a service of this stream, by name."""
    service = fake_of(stream, name)
    injections: dict[str, Callable[[], Undo]] = {
        fault: partial(FAULTS[fault], service) for fault in faults
    }
    if name == "embedder":
        injections |= {quirk: partial(_add_quirk, stream, quirk) for quirk in WRONG_VECTORS}
        injections["model removed"] = partial(_remove_model, stream)
    if name == "stargate":
        injections["table dropped"] = partial(_drop_table, stream)
    return injections


def bulk_faults(
    stream: Stream, bulk: str, faults: Iterable[str] = FAULTS
) -> dict[str, Callable[[], Undo]]:
    """Return those of Stargate with STARGATE_BULK=graphql or custom, without a hang as in rest."""
    injections = faults_of(stream, "stargate", faults)
    left_out = ["hanging"]
    if bulk == "custom":  # it has no tables, and any 2xx, even a cut one, means success
        left_out += ["cut", "garbage", "HTML", "table dropped"]
    return {fault: inject for fault, inject in injections.items() if fault not in left_out}


def _add_quirk(stream: Stream, quirk: str) -> Undo:
    stream.ollama.add_quirk(quirk)  # type: ignore[arg-type]
    return stream.ollama.clear_quirks


def _remove_model(stream: Stream) -> Undo:
    stream.ollama.remove("nomic-embed-text")
    return lambda: stream.ollama.pull("nomic-embed-text")


def _drop_table(stream: Stream) -> Undo:
    table = stream.stargate.drop_table("page_vectors")
    return lambda: stream.stargate.add_table(table)


def check_faults(
    stream: Stream,
    worker: Worker,
    name: str,
    injections: dict[str, Callable[[], Undo]],
    pages: int = 10,
) -> None:
    """Inject one fault after the other, and check that the worker reports it and recovers.

    Raises:
        AssertionError: A fault was not reported, did not end, or cost a page or a dead letter.
    """
    for number, (fault, inject) in enumerate(injections.items(), 1):
        undo = inject()
        stream.feed(pages, start=1000 * number)
        eventually(lambda: name in worker.stalled(), REPORT_TIMEOUT_S)
        undo()
        stream.wait_complete()
        eventually(lambda: not worker.stalled(), DONE_S)
        assert not stream.dead_letters(), fault
    stream.wait_committed()


def all_are_notified_or_dead_letters(stream: Stream) -> bool:
    """Whether each page was notified of its text, or its notification is a dead letter."""
    notified = {page for page in stream.texts if stream.rag.vector(page)}
    given_up = {
        dead_letter.key.decode() for dead_letter in stream.dead_letters() if dead_letter.key
    }
    return notified | given_up == set(stream.texts)
