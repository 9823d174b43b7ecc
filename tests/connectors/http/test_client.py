from __future__ import annotations

import asyncio
import base64
import datetime as dt
import email.utils
import gzip
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from connectors.core.errors import ConfigurationError, TransientError
from connectors.http.address import address_of
from connectors.http.client import HttpClient
from connectors.http.response import MAX_RETRY_AFTER_S, Response
from connectors.runtime.event_loop import EventLoop
from gibsey_embedder.fakes.rag import Rag

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def servers() -> Iterator[EventLoop]:
    """The event loop, in a thread, on which all servers of these tests run."""
    loop = EventLoop(lambda error: None)
    yield loop
    loop.close()


@pytest.fixture
def serve(servers) -> Iterator[Callable[..., str]]:
    """Starts a real server with this handler; returns its URL."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler, context: ssl.SSLContext | None) -> int:
        runner = web.AppRunner(_app(handler), shutdown_timeout=0.1)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        return runner.addresses[0][1]

    def begin(handler: Handler, context: ssl.SSLContext | None = None) -> str:
        port = servers.submit(start(handler, context)).result(10)
        return f"http{'s' if context else ''}://127.0.0.1:{port}"

    yield begin
    for runner in runners:
        servers.submit(runner.cleanup()).result(10)


def _app(handler: Handler) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    return app


@pytest.fixture
def talk(servers) -> Iterator[Callable[[Talk], str]]:
    """Starts a server with this conversation on each connection; returns its URL."""
    started: list[asyncio.AbstractServer] = []

    def begin(conversation: Talk) -> str:
        async def start() -> int:
            server = await asyncio.start_server(conversation, "127.0.0.1", 0)
            started.append(server)
            return server.sockets[0].getsockname()[1]

        return f"http://127.0.0.1:{servers.submit(start()).result(10)}"

    yield begin
    for server in started:
        servers.loop.call_soon_threadsafe(server.close)


def reply(response: bytes) -> Talk:
    """Read a request, send these bytes, and close the connection."""

    async def conversation(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(response)
        await writer.drain()
        writer.close()

    return conversation


@asynccontextmanager
async def client(ca_file: str | None = None, **limits: int) -> AsyncIterator[HttpClient]:
    http = HttpClient(ca_file, **limits)
    try:
        yield http
    finally:
        await http.close()


@pytest.fixture(params=["exchange", "request"])
def send(request) -> Callable[..., Response]:
    """Sends one request, through each of the two paths."""

    def run(
        method: str,
        url: str,
        *,
        ca_file: str | None = None,
        limits: Mapping[str, int] = {},
        **options,
    ) -> Response:
        async def once() -> Response:
            async with client(ca_file, **limits) as http:
                return await getattr(http, request.param)(
                    method, url, **{"timeout_s": 5.0, **options}
                )

        return asyncio.run(once())

    return run


# --- responses ---


def test_method_path_headers_and_body_arrive_and_the_response_is_complete(send, serve):
    async def echo(request: web.Request) -> web.Response:
        body = await request.read()
        text = f"{request.method} {request.raw_path} {request.headers['X-Token']} {body!r}"
        return web.Response(status=201, text=text, headers={"X-Response": "yes"})

    url = serve(echo) + "/v2/rows/a%2Fb?x=1"
    response = send("PUT", url, body=b"\x00text", headers={"X-Token": "t"})
    assert response.text() == r"PUT /v2/rows/a%2Fb?x=1 t b'\x00text'"
    assert (response.status, response.ok, response.headers["x-response"]) == (201, True, "yes")


@pytest.mark.parametrize("path", ["/%2E%2E", "/'..'", "/a%2Fb", "/%25", "/%3F%23%3B+", "/%20x%20"])
def test_exchange_sends_a_path_exactly_as_it_is_encoded(serve, path):
    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=request.raw_path)

    async def run() -> Response:
        async with client() as http:
            return await http.exchange("PUT", serve(echo) + "/rows" + path, timeout_s=5)

    assert asyncio.run(run()).text() == "/rows" + path


@pytest.mark.parametrize("status", [204, 302, 400, 404, 429, 500, 503])
def test_every_status_is_a_response(send, serve, status):
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    response = send("POST", serve(refuse))
    assert (response.status, response.ok) == (status, status == 204)


@pytest.mark.parametrize("path", ["exchange", "request"])
def test_connections_are_kept(serve, path):
    ports: set[object] = set()

    async def note(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername"))
        return web.Response(text="ok")

    async def run() -> None:
        url = serve(note)
        async with client() as http:
            for _ in range(3):
                await getattr(http, path)("GET", url, timeout_s=5)

    asyncio.run(run())
    assert len(ports) == 1


def test_a_login_in_the_url_is_sent(send, serve):
    async def show(request: web.Request) -> web.Response:
        return web.Response(text=request.headers["Authorization"])

    url = serve(show).replace("http://", "http://us%40er:pass@")
    assert send("GET", url).text() == "Basic " + base64.b64encode(b"us@er:pass").decode()


@pytest.mark.parametrize("path", ["exchange", "request"])
def test_cookies_are_not_kept(serve, path):
    async def bake(request: web.Request) -> web.Response:
        response = web.Response(text=str(dict(request.cookies)))
        response.set_cookie("a", "b")
        return response

    url = serve(bake)

    async def run() -> bytes:
        async with client() as http:
            await getattr(http, path)("GET", url, timeout_s=5)
            return (await getattr(http, path)("GET", url, timeout_s=5)).body

    assert asyncio.run(run()) == b"{}"


def test_the_text_of_a_response_is_one_short_line():
    response = Response(500, {}, b"<html>\n  <b>no\xff</b>\r\n" + b"x" * 10_000)
    assert response.text(20) == "<html> <b>no\ufffd</b> xx"
    assert len(response.text()) == 300


# --- no response ---


def test_a_refused_connection_is_transient_and_names_the_address(send):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(TransientError) as caught:
            send("GET", f"http://user:secret@127.0.0.1:{port}/path?key=secret")
    assert type(caught.value) is TransientError
    assert caught.value.detail == f"cannot connect to http://127.0.0.1:{port}: Connection refused"


@pytest.fixture
def resolve(monkeypatch) -> Callable[..., None]:
    """Makes a host name resolve to these addresses, in this order."""

    def patch(*addresses: str) -> None:
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, port, *_, **__: [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in addresses
            ],
        )

    return patch


@contextmanager
def silent_address(port: int) -> Iterator[str]:
    """An address on which connections are never accepted: its queue is full."""
    with ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.2", port))
        listener.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.2", port))
        yield "127.0.0.2"


def test_request_tries_the_next_address_while_the_first_one_is_silent(serve, resolve):
    url = serve(hello)
    port = int(url.rpartition(":")[2])

    async def run() -> Response:
        async with client() as http:
            return await http.request("GET", f"http://service:{port}/", timeout_s=5)

    with silent_address(port) as dead:
        resolve(dead, "127.0.0.1")
        assert asyncio.run(run()).body == b"hello"


def test_both_paths_try_the_next_address_when_the_first_one_refuses(send, serve, resolve):
    port = int(serve(hello).rpartition(":")[2])
    resolve("127.0.0.3", "127.0.0.1")
    assert send("GET", f"http://service:{port}/").body == b"hello"


def test_the_reason_is_named_when_no_address_accepts(send, resolve):
    resolve("127.0.0.3", "127.0.0.4")
    with pytest.raises(TransientError, match="cannot connect to http://service:9"):
        send("GET", "http://service:9/")


def test_proxies_of_the_environment_are_ignored(send, serve, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert send("GET", serve(hello)).body == b"hello"


def test_an_unknown_host_is_transient(send):
    with pytest.raises(
        TransientError, match=r"cannot connect to http://no\.such\.host\.invalid:80"
    ):
        send("GET", "http://no.such.host.invalid/")


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
        b"I speak\nsomething else\r\n\r\n",
    ],
    ids=["nothing", "half", "half a chunk", "half a header", "long header", "no gzip", "no http"],
)
def test_an_incomplete_response_is_transient_and_reported_on_one_line(send, talk, response):
    with pytest.raises(TransientError, match="sent no complete response") as caught:
        send("POST", talk(reply(response)), body=b"x")
    assert type(caught.value) is TransientError
    assert "\n" not in caught.value.detail
    assert len(caught.value.detail) < 300


def test_a_message_never_contains_the_password_of_a_url(send, talk):
    url = talk(reply(b"garbage\r\n\r\n")).replace("http://", "http://user:secret@") + "/?key=secret"
    with pytest.raises(TransientError) as caught:
        send("GET", url)
    assert "secret" not in caught.value.detail


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nhalf"])
def test_a_request_to_a_server_that_hangs_times_out(send, talk, beginning):
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(beginning)
        await reader.read()
        writer.close()

    with pytest.raises(TransientError, match="did not answer within 0 s"):
        send("GET", talk(hang), timeout_s=0.1)


def test_a_request_to_a_server_that_trickles_times_out(send, talk):
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not reader.at_eof() and not writer.is_closing():
            writer.write(b"x")
            await asyncio.sleep(0.01)
        writer.close()

    with pytest.raises(TransientError, match="did not answer within"):
        send("GET", talk(trickle), timeout_s=0.2)


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "endless"])
def test_a_response_that_is_too_large_is_not_read(send, talk, declared):
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        length = b"Content-Length: 1000000000000\r\n" if declared else b""
        writer.write(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            await writer.drain()

    with pytest.raises(TransientError, match="more than 1 MB"):
        send("GET", talk(flood), limits={"max_response_bytes": 1 << 20})


def test_a_response_that_is_too_large_after_decompression_is_not_read(send, talk):
    compressed = gzip.compress(b"x" * (8 << 20))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(compressed)}\r\n\r\n"
    with pytest.raises(TransientError, match="more than 1 MB"):
        send(
            "GET",
            talk(reply(head.encode() + compressed)),
            limits={"max_response_bytes": 1 << 20},
        )


def test_a_compressed_response_is_decompressed(send, talk):
    compressed = gzip.compress(b"text")
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(compressed)}\r\n\r\n"
    assert send("GET", talk(reply(head.encode() + compressed))).body == b"text"


@pytest.mark.parametrize("url", ["nonsense", "http://h:99999/", "http://[::1/", "http:///path"])
def test_an_invalid_url_is_a_configuration_error(send, url):
    with pytest.raises(ConfigurationError) as caught:
        send("GET", url)
    assert "URL" in caught.value.remedy


def test_a_token_with_a_line_break_is_a_configuration_error_and_injects_nothing(send, serve):
    async def fine(request: web.Request) -> web.Response:
        return web.Response()

    with pytest.raises(ConfigurationError) as caught:
        send("GET", serve(fine), headers={"X-Token": "secret\r\nX-Admin: yes"})
    assert "token" in caught.value.remedy
    assert "secret" not in caught.value.detail


def test_a_service_is_reachable_once_it_listens(rag: Rag) -> None:
    async def run() -> None:
        http = HttpClient()
        rag.refuse()
        waiting = asyncio.ensure_future(http.wait_until_reachable(rag.url, pause_s=0.01))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        rag.accept()
        await asyncio.wait_for(waiting, 10)

    asyncio.run(run())
    assert rag.stats.requests == 0


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate, and the TLS context of a server with it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*command.split(), "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    return cert, context


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


def test_a_certificate_is_trusted_through_http_ca_file(send, serve, certificate):
    cert, context = certificate
    url = serve(hello, context).replace("127.0.0.1", "localhost")
    assert send("GET", url, ca_file=str(cert)).body == b"hello"


def test_a_certificate_of_an_unknown_authority_is_rejected_with_the_setting(
    send, serve, certificate
):
    with pytest.raises(ConfigurationError, match="not trusted") as caught:
        send("GET", serve(hello, certificate[1]))
    assert "HTTP_CA_FILE" in caught.value.remedy


def test_a_certificate_of_another_host_is_rejected(send, serve, certificate):
    cert, context = certificate
    with pytest.raises(ConfigurationError, match="not trusted"):
        send("GET", serve(hello, context), ca_file=str(cert))


def test_tls_to_a_port_that_speaks_plain_http_is_a_configuration_error(send, serve):
    with pytest.raises(ConfigurationError, match="TLS with") as caught:
        send("GET", serve(hello).replace("http:", "https:"))
    assert "http://" in caught.value.remedy


def test_a_connection_that_ends_during_the_tls_handshake_is_transient(send, talk):
    """The message is OpenSSL's. The system's for the same number is `Exec format error`."""
    with pytest.raises(TransientError, match="cannot connect") as caught:
        send("GET", talk(reply(b"")).replace("http:", "https:"))
    assert os.strerror(ssl.SSL_ERROR_EOF) not in caught.value.detail


def test_plain_http_to_a_tls_port_that_sends_an_alert_is_a_configuration_error(send, talk):
    alert = b"\x15\x03\x03\x00\x02\x02\x46"  # fatal: protocol version
    with pytest.raises(ConfigurationError, match="speaks TLS") as caught:
        send("GET", talk(reply(alert)))
    assert "https://" in caught.value.remedy


def test_plain_http_to_a_tls_port_that_only_closes_is_transient(send, serve, certificate):
    with pytest.raises(TransientError):
        send("GET", serve(hello, certificate[1]).replace("https:", "http:"))


def test_a_ca_file_that_is_missing_or_invalid_is_a_configuration_error(send, tmp_path):
    (tmp_path / "none.pem").write_text("none")
    for name in ("missing.pem", "none.pem"):
        with pytest.raises(ConfigurationError, match="cannot be used") as caught:
            send("GET", "https://127.0.0.1:1/", ca_file=str(tmp_path / name))
        assert "HTTP_CA_FILE" in caught.value.remedy


# --- Retry-After ---


def retry_after(**headers: str) -> float | None:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(503, fields, b"").retry_after_s


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("100000", MAX_RETRY_AFTER_S),
        ("9" * 5000, MAX_RETRY_AFTER_S),
        ("inf", MAX_RETRY_AFTER_S),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
        ("Mon, 01 Jan 9999 00:00:00 GMT", MAX_RETRY_AFTER_S),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999", None),
    ],
)
def test_a_retry_after_is_parsed_as_seconds_and_limited(value, seconds):
    assert retry_after(retry_after=value) == seconds


@pytest.mark.parametrize("zone", [dt.timezone.utc, dt.timezone(dt.timedelta(hours=5))])
def test_a_retry_after_may_be_a_date(zone):
    date = dt.datetime.now(zone) + dt.timedelta(seconds=100)
    assert 95 < (retry_after(retry_after=email.utils.format_datetime(date)) or 0) <= 100


def test_retry_after_ms_takes_precedence():
    assert retry_after(retry_after="9", retry_after_ms="250") == 0.25
    assert retry_after(retry_after="9", retry_after_ms="soon") == 9.0
    assert retry_after(retry_after_ms="9" * 5000) == MAX_RETRY_AFTER_S


@given(st.text(), st.text())
def test_no_retry_after_header_raises(value, ms):
    seconds = retry_after(retry_after=value, retry_after_ms=ms)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_S


@given(st.text())
def test_address_of_accepts_any_text(url):
    assert isinstance(address_of(url), str)


def test_an_address_contains_no_secret():
    assert address_of("https://user:secret@host/path?key=secret#secret") == "https://host:443"


@pytest.mark.parametrize("url", ["http://[::1]:8082", "http://[2001:db8::5]/v2", "https://host/"])
def test_address_of_a_url_is_a_url_with_the_same_host_and_port(url: str) -> None:
    address = URL(address_of(url))
    assert (address.host, address.port) == (URL(url).host, URL(url).port)
