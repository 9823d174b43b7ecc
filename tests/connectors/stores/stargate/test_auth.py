from __future__ import annotations

import asyncio

import pytest

from connectors.core.errors import ConfigurationError, TransientError
from connectors.http.client import HttpClient
from connectors.stores.stargate.auth import RENEWAL_PAUSE_S, FetchedToken, FixedToken
from gibsey_embedder.fakes.stargate.server import Stargate
from tests.connectors.http.clients import using
from tests.connectors.stores.writers import (
    Watched,
    rest_of,
    row_of,
    until,
    with_writer,
)


@pytest.fixture
def stargate():
    with Stargate(token=None, users={"worker": "hunter2"}) as server:
        yield server


class SetClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def fetched(server: Stargate, clock=None, password="hunter2", url=None):
    return lambda http: FetchedToken(
        http, "worker", password, url or server.auth_url, clock or SetClock()
    )


def rest_with_fetched(server: Stargate, watched: Watched, clock=None, password="hunter2"):
    def make(http: HttpClient):
        tokens = fetched(server, clock, password)(http)
        return rest_of(server, watched, tokens=tokens)(http)

    return make


def test_a_token_is_fetched_once_and_kept(stargate):
    async def use(tokens):
        return [await tokens.current() for _ in range(3)]

    assert len(set(using(fetched(stargate), use))) == 1
    assert stargate.tokens.issued == 1


def test_concurrent_requests_share_one_fetch(stargate):
    stargate.delay_s = 0.02

    async def use(tokens):
        return await asyncio.gather(*(tokens.current() for _ in range(32)))

    assert len(set(using(fetched(stargate), use))) == 1
    assert stargate.stats.requests == 1


def test_a_rejected_token_is_renewed_once_for_all_requests(stargate):
    clock = SetClock()
    stargate.delay_s = 0.02

    async def use(tokens):
        old = await tokens.current()
        clock.now += 60
        return old, await asyncio.gather(*(tokens.renewed(old) for _ in range(32)))

    old, newer = using(fetched(stargate, clock), use)
    assert len(set(newer)) == 1
    assert old not in newer
    assert stargate.tokens.issued == 2


def test_a_late_request_with_an_old_token_gets_the_newer_one_without_a_fetch(stargate):
    clock = SetClock()

    async def use(tokens):
        old = await tokens.current()
        clock.now += 60
        return await tokens.renewed(old), await tokens.renewed(old)

    first, second = using(fetched(stargate, clock), use)
    assert first == second
    assert stargate.tokens.issued == 2


def test_a_new_token_that_is_rejected_is_not_renewed_before_a_pause(stargate):
    clock = SetClock()

    async def use(tokens):
        token = await tokens.current()
        same = await tokens.renewed(token)
        clock.now += RENEWAL_PAUSE_S
        return token, same, await tokens.renewed(token)

    token, same, newer = using(fetched(stargate, clock), use)
    assert same == token
    assert newer != token


def test_a_wrong_password_names_the_settings_and_is_not_sent_repeatedly(stargate):
    clock = SetClock()

    async def use(tokens):
        faults = []
        for _ in range(10):
            with pytest.raises(ConfigurationError) as caught:
                await tokens.current()
            faults.append(caught.value)
        clock.now += RENEWAL_PAUSE_S
        with pytest.raises(ConfigurationError):
            await tokens.current()
        return faults[0]

    fault = using(fetched(stargate, clock, password="wr0ng-one"), use)
    assert "STARGATE_USERNAME" in fault.remedy
    assert "STARGATE_PASSWORD" in fault.remedy
    assert "wr0ng-one" not in fault.detail
    assert stargate.stats.requests == 2


@pytest.mark.parametrize("path", ["/nothing/here", "/checker/readiness"])
def test_a_url_without_an_auth_service_names_the_setting(stargate, path):
    async def use(tokens):
        with pytest.raises(ConfigurationError) as caught:
            await tokens.current()
        return caught.value.remedy

    assert "STARGATE_AUTH_URL" in using(fetched(stargate, url=stargate.url + path), use)


def test_a_busy_auth_service_is_retried_after_the_pause(stargate):
    clock = SetClock()
    stargate.faults.status(503, times=1)

    async def use(tokens):
        with pytest.raises(TransientError):
            await tokens.current()
        clock.now += RENEWAL_PAUSE_S
        return await tokens.current()

    assert using(fetched(stargate, clock), use)


def test_a_token_with_a_line_break_is_not_accepted(stargate):
    stargate.faults.status(201, b'{"authToken":"a\\r\\nX-Other: b"}')

    async def use(tokens):
        with pytest.raises(ConfigurationError):
            await tokens.current()

    using(fetched(stargate), use)


def test_secrets_are_not_shown():
    tokens = FetchedToken(
        HttpClient(), "worker", "hunter2", "http://u:hunter2@stargate:8081/v1/auth"
    )
    shown = repr(tokens) + str(tokens) + tokens.remedy + repr(FixedToken("hunter2"))
    assert "hunter2" not in shown


def test_a_token_that_expires_during_writes_costs_one_renewal_and_no_page(stargate):
    watched, clock = Watched(), SetClock()
    rows = [row_of(f"p{n}") for n in range(64)]

    async def use(writer):
        await writer.write(rows[:32])
        stargate.tokens.expire()
        clock.now += 60
        return await writer.write(rows[32:])

    assert with_writer(rest_with_fetched(stargate, watched, clock), use) == {}
    assert len(stargate.vectors.rows) == 64
    assert stargate.tokens.issued == 2
    assert watched.count("gibsey_retries_total", service="stargate") == 0


def until_stalled_then(stargate, watched, make, repair, within_requests=40):
    async def use(writer):
        writing = asyncio.ensure_future(writer.write([row_of(f"p{n}") for n in range(8)]))
        stall = await until(lambda: watched.stall("stargate"))
        assert stargate.stats.requests <= within_requests
        repair()
        return stall, await writing

    return with_writer(make, use)


def test_a_role_without_modify_is_reported_without_a_renewal_loop(stargate):
    watched = Watched()
    reply = b'{"description":"Role unauthorized for operation: MODIFY on gibsey","code":401}'
    stargate.faults.status(401, reply, when=lambda request: request.method == "PUT")
    stall, rejected = until_stalled_then(
        stargate, watched, rest_with_fetched(stargate, watched), stargate.faults.clear
    )
    assert "MODIFY on gibsey" in stall
    assert "STARGATE_USERNAME" in stall
    assert rejected == {}
    assert stargate.tokens.issued <= 2


def test_a_rejected_fixed_token_names_its_setting():
    watched = Watched()
    with Stargate(token="right-one") as server:
        make = rest_of(server, watched, tokens=FixedToken("wrong-one"))

        def repair():
            server.tokens.fixed = "wrong-one"

        stall, rejected = until_stalled_then(server, watched, make, repair)
    assert "STARGATE_AUTH_TOKEN" in stall
    assert "wrong-one" not in stall
    assert rejected == {}


def test_a_stalled_permission_check_is_transient():
    watched = Watched()
    reply = b'{"description":"Role unauthorized for operation: Operation timed out","code":401}'
    with Stargate() as server:
        server.faults.status(401, reply)

        async def use(writer):
            with pytest.raises(TransientError) as caught:
                await writer.session.send("GET", server.url)
            return caught.value

        error = with_writer(rest_of(server, watched), use)
    assert not isinstance(error, ConfigurationError)
    assert "timed out" in error.detail


def test_without_a_token_no_header_is_sent(stargate):
    headers = []

    async def reply_to(request):
        headers.append(dict(request.headers))
        return await Stargate.reply_to(stargate, request)

    stargate.reply_to = reply_to
    watched = Watched()
    make = rest_of(stargate, watched, tokens=FixedToken(""))

    def repair():
        stargate.tokens.error = lambda token: None

    stall, _ = until_stalled_then(stargate, watched, make, repair)
    assert "Missing token" in stall
    assert not any("X-Cassandra-Token" in sent for sent in headers)
