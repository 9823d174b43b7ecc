"""Listeners that imitate misconfigured brokers: TLS, logins, mechanisms, no response."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator

API_VERSIONS, HANDSHAKE, AUTHENTICATE = 18, 17, 36
SUPPORTED = ((3, 0, 4), (HANDSHAKE, 0, 1), (API_VERSIONS, 0, 0), (AUTHENTICATE, 0, 0))
HANDSHAKE_RECORD = b"\x16"
"""The first byte of TLS."""
Respond = Callable[[int], "bytes | None"]


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen on a free port and call `serve` with each connection; return `host:port`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=guarded, args=(connection,), daemon=True).start()

        def guarded(connection: socket.socket) -> None:
            with contextlib.suppress(OSError, struct.error), connection:
                serve(connection)

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def closing(connection: socket.socket) -> None:
    """Read a request, and close the connection."""
    connection.recv(65536)


def silent(connection: socket.socket) -> None:
    """Accept the connection, and never respond."""
    while connection.recv(65536):
        pass


def tls(certificate: str = "", key: str = "") -> Callable[[socket.socket], None]:
    """Return a TLS server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        context.load_cert_chain(certificate, key)

    def serve(connection: socket.socket) -> None:
        if connection.recv(1, socket.MSG_PEEK) != HANDSHAKE_RECORD:
            connection.recv(65536)  # unread bytes would reset the connection
            return
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)

    return serve


def kafka(respond: Respond) -> Callable[[socket.socket], None]:
    """Return a broker that responds to ApiVersions, and with `respond` to login requests.

    Args:
        respond: Returns the response to an API key; None closes the connection.
    """

    def serve(connection: socket.socket) -> None:
        while head := connection.recv(4, socket.MSG_WAITALL):
            request = connection.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
            api, version, number = struct.unpack(">hhi", request[:8])
            response = _versions(version) if api == API_VERSIONS else respond(api)
            if response is None:
                return
            body = struct.pack(">i", number) + response
            connection.sendall(struct.pack(">i", len(body)) + body)

    return serve


def _versions(version: int) -> bytes:
    error = 35 if version > 0 else 0
    rows = b"".join(struct.pack(">hhh", *row) for row in SUPPORTED)
    return struct.pack(">hi", error, len(SUPPORTED)) + rows


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def requires_login(api: int) -> bytes | None:
    """Reject the login, and close the connection at any other request."""
    if api == HANDSHAKE:
        return struct.pack(">hi", 0, 1) + _text("PLAIN")
    if api == AUTHENTICATE:
        refusal = "Authentication failed: Invalid username or password"
        return struct.pack(">h", 58) + _text(refusal) + struct.pack(">i", 0)
    return None


def other_mechanism(api: int) -> bytes | None:
    """Support only the mechanism PLAIN."""
    return struct.pack(">hi", 33, 1) + _text("PLAIN") if api == HANDSHAKE else None


def accepts_no_login(api: int) -> bytes | None:
    """Support no login."""
    return struct.pack(">hi", 34, 0) if api == HANDSHAKE else None
