"""Faults that a fake injects into the next requests.

A fault applies to `times` requests, or until it is cleared. With `when`, it applies only to the
requests for which `when` is true. The oldest fault that applies to a request is used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gibsey_embedder.fakes.message import TEXT, Reply, Request

Kind = Literal["hang", "slow", "reply", "cut", "drop"]
When = Callable[[Request], bool]

HTML_PAGE = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
GARBAGE = b'{"embeddings": [[0.1, 0.2,\x00 garb'


@dataclass(slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: `hang` never replies; `slow` replies after `seconds`; `reply` sends `reply`; `cut`
            executes the request and closes the connection in the middle of the reply; `drop`
            closes the connection without a reply.
        seconds: The delay of `slow`.
        reply: The reply of `reply`.
        times: The number of requests left; None means no limit.
        when: Selects requests; None selects all.
        done: Whether the request is executed before `reply` is sent.
    """

    kind: Kind
    seconds: float = 0.0
    reply: Reply = field(default_factory=Reply)
    times: int | None = None
    when: When | None = None
    done: bool = False


class Faults:
    """The faults of one fake; all methods are thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._cleared: list[Callable[[], None]] = []

    def add(self, fault: Fault) -> None:
        """Add a fault after the existing ones."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Remove all faults and close the connections that hang."""
        with self._lock:
            self._faults.clear()
            callbacks = list(self._cleared)
        for callback in callbacks:
            callback()

    def on_clear(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each `clear`."""
        self._cleared.append(callback)

    def take(self, request: Request) -> Fault | None:
        """Return the fault for this request and count it as used."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults:
                if fault.when is None or fault.when(request):
                    self._use(fault)
                    return fault
        return None

    def _use(self, fault: Fault) -> None:
        if fault.times is not None:
            fault.times -= 1
            if fault.times <= 0:
                self._faults.remove(fault)

    def hang(self, times: int | None = None, when: When | None = None) -> None:
        """Send no reply until the faults are cleared or the fake stops."""
        self.add(Fault("hang", times=times, when=when))

    def slow(self, seconds: float, times: int | None = None, when: When | None = None) -> None:
        """Delay requests by `seconds`."""
        self.add(Fault("slow", seconds=seconds, times=times, when=when))

    def status(
        self,
        code: int,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        times: int | None = None,
        when: When | None = None,
        done: bool = False,
    ) -> None:
        """Reply with `code`; with `done`, execute the request first."""
        reply = Reply(code, body, headers=headers or {})
        self.add(Fault("reply", reply=reply, times=times, when=when, done=done))

    def cut(self, times: int | None = None, when: When | None = None) -> None:
        """Execute the request, and close the connection in the middle of the reply."""
        self.add(Fault("cut", times=times, when=when))

    def drop(self, times: int | None = None, when: When | None = None) -> None:
        """Close the connection without a reply, and do not execute the request."""
        self.add(Fault("drop", times=times, when=when))

    def garbage(self, times: int | None = None, when: When | None = None) -> None:
        """Reply 200 with a body that is not JSON."""
        self.add(Fault("reply", reply=Reply(200, GARBAGE), times=times, when=when))

    def html(self, status: int = 200, times: int | None = None, when: When | None = None) -> None:
        """Reply with the HTML page of a gateway."""
        reply = Reply(status, HTML_PAGE, "text/html")
        self.add(Fault("reply", reply=reply, times=times, when=when))


def parse_fault(given: Mapping[str, object]) -> Fault:
    """Parse the fault in the JSON of `POST /__control__`.

    The shape is `{"kind", "seconds"?, "status"?, "body"?, "headers"?, "times"?, "match"?,
    "done"?}`. `kind` may also be `status`, `garbage` or `html`. `match` selects the requests that
    contain this text.

    Raises:
        KeyError: `kind` is missing.
        ValueError: A value is invalid.
    """
    kind, match, times = str(given["kind"]), given.get("match"), given.get("times")
    headers = given.get("headers")
    replies = {
        "status": Reply(
            int(str(given.get("status", 500))),
            str(given.get("body", "")).encode(),
            str(given.get("content_type", "application/json")),
            {str(k): str(v) for k, v in headers.items()} if isinstance(headers, dict) else {},
        ),
        "garbage": Reply(200, GARBAGE),
        "html": Reply(int(str(given.get("status", 200))), HTML_PAGE, "text/html"),
    }
    if kind not in replies and kind not in ("hang", "slow", "cut", "drop"):
        raise ValueError(f"no such fault: {kind}")
    return Fault(
        "reply" if kind in replies else kind,  # type: ignore[arg-type]
        seconds=float(str(given.get("seconds", 0))),
        reply=replies.get(kind, Reply(500, b"", TEXT)),
        times=None if times is None else int(str(times)),
        when=None if match is None else (lambda request: request.mentions(str(match))),
        done=bool(given.get("done", False)),
    )
