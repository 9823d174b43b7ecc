"""Shows what a command waits for, because it seems to hang when a service is down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

LATE_S = 1.0


@contextmanager
def waiting_notice(text: str) -> Iterator[None]:
    """Show a text on standard error until the block ends.

    A terminal shows it at once. A log gets one line, and only if the block takes longer than
    `LATE_S`.

    Args:
        text: What the command is doing, without a full stop.
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
