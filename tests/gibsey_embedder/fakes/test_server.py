"""The base class of the fakes: faults, counters, start and stop."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from gibsey_embedder.fakes.ollama import Ollama
from gibsey_embedder.fakes.process import FakeProcess
from gibsey_embedder.fakes.rag import Rag
from tests.eventually import eventually

VECTOR = [0.0] * 767 + [1.0]


def refresh(rag: Rag, page_id: str = "p", timeout: float = 5.0) -> httpx.Response:
    return httpx.post(rag.refresh_url, json={"page_id": page_id, "vector": VECTOR}, timeout=timeout)


def test_a_status_applies_to_the_given_number_of_requests(rag: Rag) -> None:
    rag.faults.status(429, b"slow down", {"Retry-After": "2"}, times=2)
    responses = [refresh(rag) for _ in range(3)]
    assert [response.status_code for response in responses] == [429, 429, 200]
    assert responses[0].headers["retry-after"] == "2"
    assert responses[0].text == "slow down"
    assert rag.counts["p"] == 1


def test_a_fault_for_one_page_does_not_affect_other_pages(rag: Rag) -> None:
    rag.faults.status(500, when=lambda request: request.mentions("bad/é"))
    assert refresh(rag, "bad/é").status_code == 500
    assert refresh(rag, "good").status_code == 200
    rag.faults.clear()
    assert refresh(rag, "bad/é").status_code == 200


def test_a_request_may_be_executed_before_the_status(rag: Rag) -> None:
    rag.faults.status(500, times=1, done=True)
    assert refresh(rag).status_code == 500
    assert rag.counts["p"] == 1


def test_a_request_is_executed_before_its_reply_is_cut(rag: Rag) -> None:
    rag.faults.cut(times=1)
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        refresh(rag)
    assert rag.counts["p"] == 1


def test_a_dropped_request_has_no_reply_and_is_not_executed(rag: Rag) -> None:
    rag.faults.drop(times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        refresh(rag)
    assert not rag.counts


def test_garbage_and_html_are_not_json(rag: Rag) -> None:
    rag.faults.garbage(times=1)
    rag.faults.html(502, times=1)
    with pytest.raises(ValueError):
        refresh(rag).json()
    page = refresh(rag)
    assert (page.status_code, page.headers["content-type"]) == (502, "text/html")


def test_a_request_hangs_until_the_faults_are_cleared(rag: Rag) -> None:
    rag.faults.hang(times=1)
    with pytest.raises(httpx.ReadTimeout):
        refresh(rag, timeout=0.1)
    rag.faults.hang(times=1)
    asked = rag.stats.requests

    def clear_once_it_hangs() -> None:
        eventually(lambda: rag.stats.requests > asked)
        rag.faults.clear()

    clearing = threading.Thread(target=clear_once_it_hangs)
    clearing.start()
    with pytest.raises(httpx.RemoteProtocolError):
        refresh(rag)
    clearing.join()


def test_a_slow_request_is_served_late(rag: Rag) -> None:
    rag.faults.slow(0.1, times=1)
    began = time.monotonic()
    assert refresh(rag).status_code == 200
    assert time.monotonic() - began >= 0.1


def test_a_server_accepts_connections_again_at_the_same_address(rag: Rag) -> None:
    rag.refuse()
    with pytest.raises(httpx.ConnectError):
        refresh(rag)
    rag.accept()
    assert refresh(rag).status_code == 200


def test_refused_connections_may_end_after_a_time(rag: Rag) -> None:
    rag.refuse(seconds=1.0)

    def again() -> bool:
        try:
            return refresh(rag).status_code == 200
        except httpx.ConnectError:
            return False

    assert not again()
    eventually(again)


def test_a_fake_restarts_on_its_port_with_its_data() -> None:
    rag = Rag()
    rag.start()
    url = rag.url
    refresh(rag)
    rag.stop()
    rag.start()
    assert rag.url == url
    refresh(rag)
    rag.stop()
    assert rag.counts["p"] == 2


def test_a_port_in_use_is_an_error_at_the_start(rag: Rag) -> None:
    with pytest.raises(OSError):
        Rag(port=rag.port).start()


def test_the_number_of_concurrent_requests_is_limited() -> None:
    with Rag(delay_s=0.2, workers=2) as rag:
        threads = [threading.Thread(target=refresh, args=(rag, str(n))) for n in range(6)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began >= 0.6
        assert rag.stats.max_in_flight > 2
        assert rag.stats.slots_s == pytest.approx(1.2, abs=1e-4)  # regardless of late timers


def test_faults_and_delays_can_be_set_over_http_during_a_fault(rag: Rag) -> None:
    order = {"fault": {"kind": "status", "status": 503, "match": "bad"}, "delay_s": 0.05}
    assert httpx.post(f"{rag.url}/__control__", json=order).status_code == 200
    assert refresh(rag, "bad").status_code == 503
    began = time.monotonic()
    assert refresh(rag, "good").status_code == 200
    assert time.monotonic() - began >= 0.05
    assert httpx.get(f"{rag.url}/__stats__").json()["faults"] == 1
    httpx.post(f"{rag.url}/__control__", json={"fault": None})
    assert refresh(rag, "bad").status_code == 200


@pytest.mark.parametrize("order", [{"nothing": 1}, {"fault": {"kind": "wrong"}}, {"fault": {}}])
def test_invalid_control_values_are_rejected(rag: Rag, order: object) -> None:
    assert httpx.post(f"{rag.url}/__control__", json=order).status_code == 400


def test_a_fake_runs_in_a_process_of_its_own() -> None:
    with FakeProcess("rag", delay_s=0.01) as process:
        response = httpx.post(f"{process.url}/refresh", json={"page_id": "p", "vector": VECTOR})
        assert response.status_code == 200
        process.control(fault={"kind": "status", "status": 500})
        assert httpx.post(f"{process.url}/refresh").status_code == 500
        assert process.stats()["items"] == 1


def test_the_rag_service_accepts_only_768_numbers_and_its_token() -> None:
    with Rag(token="t") as rag:
        assert refresh(rag).status_code == 401
        bearer = {"Authorization": "Bearer t"}
        short = {"page_id": "p", "vector": VECTOR[1:]}
        assert httpx.post(rag.refresh_url, json=short, headers=bearer).status_code == 422
        whole = {"page_id": "p", "vector": VECTOR}
        assert httpx.post(rag.refresh_url, json=whole, headers=bearer).status_code == 200
        assert rag.vector("p") == VECTOR
        assert rag.wait_for(1)


def test_an_embedder_computes_one_request_at_a_time_and_counts_it() -> None:
    with Ollama(request_s=0.02, text_s=0.01) as ollama:
        order = {"model": "nomic-embed-text", "input": ["a", "b"]}
        threads = [
            threading.Thread(
                target=httpx.post, args=(f"{ollama.url}/api/embed",), kwargs={"json": order}
            )
            for _ in range(3)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began >= 0.12
        assert ollama.stats.busy_s == pytest.approx(0.12, abs=0.02)
