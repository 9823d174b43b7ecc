"""Says what a command waits for: where a service is away it would seem to hang."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

LATE_S = 1.0


@contextmanager
def waiting_notice(text: str) -> Iterator[None]:
    """Say on standard error what is being done: on a terminal at once, until it is done.

    In a log it is a line, written only where it takes longer than `LATE_S`.

    Args:
        text: What is being done, without a full stop.
    """
    console = Console(stderr=True, highlight=False)
    if console.is_terminal:
        with console.status(escape(text)):
            yield
        return
    late = threading.Timer(LATE_S, console.print, [f"{escape(text)} …"], {"soft_wrap": True})
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()
