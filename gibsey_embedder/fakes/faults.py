"""Faults on order: what a stand-in does to the next requests instead of answering them.

Each fault holds for `times` requests, or until cleared; with `when`, only for requests that it
is true of. The first fault in the order of their ordering that fits a request acts on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gibsey_embedder.fakes.message import TEXT, Reply, Request

Kind = Literal["hang", "slow", "answer", "cut", "drop"]
When = Callable[[Request], bool]

HTML_PAGE = b"<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
GARBAGE = b'{"embeddings": [[0.1, 0.2,\x00 garb'


@dataclass(slots=True)
class Fault:
    """One fault.

    Attributes:
        kind: `hang` never answers; `slow` answers after `seconds`; `answer` answers with
            `answer`; `cut` carries the request out and ends the connection in the middle of the
            answer; `drop` ends it without one.
        seconds: How long `slow` takes.
        answer: What `answer` says.
        times: How many requests are left; None is for ever.
        when: Which requests; None is all.
        done: Whether the request is carried out before it is answered so (`answer` only).
    """

    kind: Kind
    seconds: float = 0.0
    answer: Reply = field(default_factory=Reply)
    times: int | None = None
    when: When | None = None
    done: bool = False


class Faults:
    """A stand-in's faults; every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._cleared: list[Callable[[], None]] = []

    def add(self, fault: Fault) -> None:
        """Orders a fault."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Ends all faults; connections that hang are closed."""
        with self._lock:
            self._faults.clear()
            callbacks = list(self._cleared)
        for callback in callbacks:
            callback()

    def on_clear(self, callback: Callable[[], None]) -> None:
        """Has `callback` called after each `clear`."""
        self._cleared.append(callback)

    def take(self, request: Request) -> Fault | None:
        """The fault that acts on this request, counted as used."""
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
        """Requests get no answer until the faults are cleared or the stand-in stops."""
        self.add(Fault("hang", times=times, when=when))

    def slow(self, seconds: float, times: int | None = None, when: When | None = None) -> None:
        """Requests wait `seconds` more before they are served."""
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
        """Requests are answered with `code`; `done` says that they are carried out all the same."""
        answer = Reply(code, body, headers=headers or {})
        self.add(Fault("answer", answer=answer, times=times, when=when, done=done))

    def cut(self, times: int | None = None, when: When | None = None) -> None:
        """Requests are carried out, and the connection ends in the middle of the answer."""
        self.add(Fault("cut", times=times, when=when))

    def drop(self, times: int | None = None, when: When | None = None) -> None:
        """The connection ends without an answer; nothing is carried out."""
        self.add(Fault("drop", times=times, when=when))

    def garbage(self, times: int | None = None, when: When | None = None) -> None:
        """Requests are answered 200 with a body that is no JSON."""
        self.add(Fault("answer", answer=Reply(200, GARBAGE), times=times, when=when))

    def html(self, status: int = 200, times: int | None = None, when: When | None = None) -> None:
        """Requests are answered with a gateway's HTML page."""
        answer = Reply(status, HTML_PAGE, "text/html")
        self.add(Fault("answer", answer=answer, times=times, when=when))


def parse_fault(order: Mapping[str, object]) -> Fault:
    """A fault from the JSON of `POST /__control__`.

    Shape: `{"kind", "seconds"?, "status"?, "body"?, "headers"?, "times"?, "match"?, "done"?}`;
    `kind` may also be `status`, `garbage` or `html`; `match` is a text which requests must hold.

    Raises:
        KeyError: There is no `kind`.
        ValueError: A value cannot be used.
    """
    kind, match, times = str(order["kind"]), order.get("match"), order.get("times")
    headers = order.get("headers")
    answers = {
        "status": Reply(
            int(str(order.get("status", 500))),
            str(order.get("body", "")).encode(),
            str(order.get("content_type", "application/json")),
            {str(k): str(v) for k, v in headers.items()} if isinstance(headers, dict) else {},
        ),
        "garbage": Reply(200, GARBAGE),
        "html": Reply(int(str(order.get("status", 200))), HTML_PAGE, "text/html"),
    }
    if kind not in answers and kind not in ("hang", "slow", "cut", "drop"):
        raise ValueError(f"no such fault: {kind}")
    return Fault(
        "answer" if kind in answers else kind,  # type: ignore[arg-type]
        seconds=float(str(order.get("seconds", 0))),
        answer=answers.get(kind, Reply(500, b"", TEXT)),
        times=None if times is None else int(str(times)),
        when=None if match is None else (lambda request: request.mentions(str(match))),
        done=bool(order.get("done", False)),
    )
