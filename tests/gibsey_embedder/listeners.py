"""Listeners that behave as a Kafka of another set-up: TLS, logins, other mechanisms, silence."""

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
Say = Callable[[int], "bytes | None"]


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A port at which `serve` is called with each connection; `host:port`."""
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


def deaf(connection: socket.socket) -> None:
    """Takes what is said, and ends the connection."""
    connection.recv(65536)


def silent(connection: socket.socket) -> None:
    """Takes the connection and never says anything."""
    while connection.recv(65536):
        pass


def tls(certificate: str = "", key: str = "") -> Callable[[socket.socket], None]:
    """A TLS port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        context.load_cert_chain(certificate, key)

    def serve(connection: socket.socket) -> None:
        if connection.recv(1, socket.MSG_PEEK) != HANDSHAKE_RECORD:
            connection.recv(65536)  # unread bytes would make a reset of the end
            return
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)

    return serve


def kafka(say: Say) -> Callable[[socket.socket], None]:
    """A broker that answers the first questions, and by `say` those about the login.

    Args:
        say: What is answered to a question of this kind; None ends the connection.
    """

    def serve(connection: socket.socket) -> None:
        while head := connection.recv(4, socket.MSG_WAITALL):
            question = connection.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)
            kind, version, number = struct.unpack(">hhi", question[:8])
            answer = _versions(version) if kind == API_VERSIONS else say(kind)
            if answer is None:
                return
            body = struct.pack(">i", number) + answer
            connection.sendall(struct.pack(">i", len(body)) + body)

    return serve


def _versions(asked: int) -> bytes:
    error = 35 if asked > 0 else 0
    rows = b"".join(struct.pack(">hhh", *row) for row in SUPPORTED)
    return struct.pack(">hi", error, len(SUPPORTED)) + rows


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def wants_login(kind: int) -> bytes | None:
    """Ends the connection at the first question that is not about a login."""
    if kind == HANDSHAKE:
        return struct.pack(">hi", 0, 1) + _text("PLAIN")
    if kind == AUTHENTICATE:
        refusal = "Authentication failed: Invalid username or password"
        return struct.pack(">h", 58) + _text(refusal) + struct.pack(">i", 0)
    return None


def other_mechanism(kind: int) -> bytes | None:
    """Knows the mechanism PLAIN alone."""
    return struct.pack(">hi", 33, 1) + _text("PLAIN") if kind == HANDSHAKE else None


def takes_no_login(kind: int) -> bytes | None:
    """Knows of no login."""
    return struct.pack(">hi", 34, 0) if kind == HANDSHAKE else None
