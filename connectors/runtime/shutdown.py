"""How the process ends: on a signal, on a fatal error, and by its watchdog.

Worker threads wait in many places, and Bytewax reports a worker's error only after all workers have
ended. So every wait watches one event of the process, a fatal error ends the process from any
thread, and the watchdog ends a process that does not end by itself.
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
"""How long the watchdog waits for the final steps: they may wait for a broker that is down."""


class Shutdown:
    """The process's stop event and the callbacks that follow it.

    Args:
        watchdog_s: Seconds from the signal until the process ends itself.
        exit_process: Ends the process with an exit code, at once; replaced in tests.
        final_steps_s: Seconds for which the watchdog waits for the final steps.
    """

    def __init__(
        self,
        watchdog_s: float = WATCHDOG_S,
        exit_process: Callable[[int], NoReturn] = os._exit,
        final_steps_s: float = FINAL_STEPS_S,
    ) -> None:
        self.stopping = threading.Event()
        self._watchdog_s = watchdog_s
        self._final_steps_s = final_steps_s
        self._exit = exit_process
        self._lock = threading.Lock()
        self._final_steps: list[Callable[[], None]] = []
        self._on_stop: list[Callable[[], object]] = []
        self._open_pages: Callable[[], int] = lambda: 0
        self._log = logs.get("stream")
        self._is_fatal = False

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call `callback` once, from the signal thread, when the process stops."""
        self._on_stop.append(callback)

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call `callback` once, before the process ends in order or by its watchdog."""
        self._final_steps.append(callback)

    def count_open_pages(self, count: Callable[[], int]) -> None:
        """Use `count` for the watchdog's log line: the pages that the next start processes."""
        self._open_pages = count

    def install(self) -> None:
        """Handle SIGTERM and SIGINT; in the main thread only.

        Python's C handler writes to a socket that a thread of ours reads. The main thread may be
        inside Bytewax's Rust code, where Python's own handlers run late or never.
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
        """Stop everything, and start the watchdog."""
        with self._lock:
            if self.stopping.is_set():
                return
            self.stopping.set()
        threading.Thread(target=self._watchdog, name="watchdog", daemon=True).start()
        self._call_each(self._on_stop, "a stop callback failed")

    def _watchdog(self) -> None:
        time.sleep(self._watchdog_s)
        final = threading.Thread(target=self._end_late, name="final-steps", daemon=True)
        final.start()
        final.join(self._final_steps_s)
        self._exit(0)

    def _end_late(self) -> None:
        self._log.warning(
            "some requests are still open: ending now, the next start processes their pages again",
            after_s=round(self._watchdog_s),
            pages=self._open_pages(),
        )
        self.end()

    def fatal(self, error: BaseException, where: str) -> NoReturn:
        """Log an error that ends the stream, and end the process with 1.

        The final steps do not run: as after a kill, the next start processes the open epoch again.
        """
        with self._lock:
            is_first, self._is_fatal = not self._is_fatal, True
        if is_first:
            with _ignore_closed_stderr():
                cause = error.__cause__ or error
                self._log.error("fatal", where=where, error=f"{type(cause).__name__}: {cause}")
                self._log.debug("fatal", trace="".join(traceback.format_exception(error)))
            self._exit(1)
        while True:  # another thread is ending the process
            time.sleep(1)

    @contextmanager
    def guard(self, where: str) -> Iterator[None]:
        """Make any error inside the block fatal, in any thread."""
        try:
            yield
        except (StopIteration, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - no error may stay hidden
            self.fatal(error, where)

    def end(self) -> None:
        """Run the final steps, when the process ends in order."""
        steps, self._final_steps = self._final_steps, []
        self._call_each(steps, "a final step failed")

    def end_process(self) -> None:
        """Run the final steps and end the process here; called at the interpreter's exit.

        Threads of librdkafka may call an interpreter that is shutting down: on a busy machine, one
        SIGTERM in twenty ended with a segmentation fault instead of 0.
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
            except Exception as error:  # noqa: BLE001 - the other callbacks must run
                self._log.warning(when, error=f"{type(error).__name__}: {error}")


def _ignore_closed_stderr() -> suppress:
    """The reader of the log may have ended; the process must end too."""
    return suppress(OSError, ValueError)
