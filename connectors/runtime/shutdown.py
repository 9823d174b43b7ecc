"""How the process ends: on a signal, on a fatal error, and by its watchdog.

Worker threads wait in many places, and Bytewax shows a worker's error only once all of them have
ended. So every wait watches one process-wide event, a fatal error ends the process from wherever
it happens, and a watchdog ends what has not ended by itself.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from connectors.observability import logs

WATCHDOG_S = 15.0
FINAL_STEPS_S = 5.0
"""How long the watchdog lets the last words take: they may speak to a broker that is away."""


class Shutdown:
    """The process's one stop event, and what follows from it.

    Args:
        watchdog_s: Seconds from the signal until the process ends itself.
        exit_process: Ends the process with a code, at once; replaced in tests.
    """

    def __init__(
        self, watchdog_s: float = WATCHDOG_S, exit_process: Callable[[int], NoReturn] = os._exit
    ) -> None:
        self.stopping = threading.Event()
        self._watchdog_s = watchdog_s
        self._exit = exit_process
        self._lock = threading.Lock()
        self._final_steps: list[Callable[[], None]] = []
        self._on_stop: list[Callable[[], object]] = []
        self._open_pages: Callable[[], int] = lambda: 0
        self._log = logs.get("stream")
        self._fatal = False

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Have `callback` called (once, from the signal thread) when a stop is asked for."""
        self._on_stop.append(callback)

    def at_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called before the process ends in order, or by its watchdog."""
        self._final_steps.append(callback)

    def count_open_pages(self, count: Callable[[], int]) -> None:
        """Say how the watchdog learns how many pages will be done again."""
        self._open_pages = count

    def install(self) -> None:
        """Take over SIGTERM and SIGINT; in the main thread only.

        The C-level handler writes to a socket that a thread of ours reads: the main thread may
        be inside Bytewax's Rust code, where Python's own handlers run late or never.
        """
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        threading.Thread(
            target=self._watch_signals, args=(reader, writer), name="signals", daemon=True
        ).start()

    def _watch_signals(self, reader: socket.socket, _keep_open: socket.socket) -> None:
        while number := reader.recv(1):
            name = signal.Signals(number[0]).name
            if number[0] not in (signal.SIGTERM, signal.SIGINT):
                continue
            if self.stopping.is_set():
                with _ignore_closed_stderr():
                    self._log.warning("second signal: ending at once", signal=name)
                self._exit(128 + number[0])
            with _ignore_closed_stderr():
                self._log.info("stopping", signal=name)
            self.stop()

    def stop(self) -> None:
        """Ask everything to end; the watchdog starts to count."""
        with self._lock:
            if self.stopping.is_set():
                return
            self.stopping.set()
        threading.Thread(target=self._watchdog, name="watchdog", daemon=True).start()
        self._call_each(self._on_stop, "at the stop")

    def _watchdog(self) -> None:
        time.sleep(self._watchdog_s)
        last = threading.Thread(target=self._finish_late, name="final-steps", daemon=True)
        last.start()
        last.join(FINAL_STEPS_S)
        self._exit(0)

    def _finish_late(self) -> None:
        self._log.warning(
            "not everything has answered: ending now, the next start does the open pages again",
            after_s=round(self._watchdog_s),
            pages=self._open_pages(),
        )
        self.end()

    def fatal(self, error: BaseException, where: str) -> NoReturn:
        """Log an error that the stream cannot go on from, and end the process with 1.

        Nothing is written any more: the open epoch is done again at the next start, as after
        a kill.
        """
        with self._lock:
            first, self._fatal = not self._fatal, True
        if first:
            with _ignore_closed_stderr():
                cause = error.__cause__ or error
                self._log.error("fatal", where=where, error=f"{type(cause).__name__}: {cause}")
                self._log.debug("fatal", trace="".join(traceback.format_exception(error)))
            self._exit(1)
        while True:  # another thread is ending the process this very moment
            time.sleep(1)

    @contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Make any error inside the block fatal, at once, from whatever thread."""
        try:
            yield
        except (StopIteration, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must not be hidden
            self.fatal(error, where)

    def end(self) -> None:
        """Run what was left for the end; for the ordinary way out."""
        words, self._final_steps = self._final_steps, []
        self._call_each(words, "at the end")

    def end_process(self) -> None:
        """The same, and end the process here; called at the interpreter's exit.

        Threads inside librdkafka come back for an interpreter that is being taken down: on a
        busy machine one SIGTERM in twenty ended with a segmentation fault instead of 0.
        """
        self.end()
        with _ignore_closed_stderr():
            sys.stdout.flush()
            sys.stderr.flush()
        self._exit(1 if getattr(sys, "last_value", None) is not None else 0)

    def _call_each(self, callbacks: Iterable[Callable[[], object]], when: str) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # noqa: BLE001 - the next ones must have their say
                self._log.warning(when, error=f"{type(error).__name__}: {error}")


def _ignore_closed_stderr() -> suppress:
    """Whoever reads the log may be gone; the process must end all the same."""
    return suppress(OSError, ValueError)
