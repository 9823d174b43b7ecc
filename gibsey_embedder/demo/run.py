"""Runs the demo: the real worker, fakes of all services, and Python's own documentation."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gibsey_embedder.demo.checks import Check, check_all
from gibsey_embedder.demo.feed import Feed
from gibsey_embedder.demo.pages import Page, stdlib_pages
from gibsey_embedder.demo.report import Figures, show_checks, show_figures, show_search
from gibsey_embedder.demo.services import REQUEST_S, TEXT_S, Services
from gibsey_embedder.demo.worker import Worker

EDITS = 100
REAL_PAGES = 150
REAL_EDITS = 20
STALL_TIMEOUT_S = 90.0
EDIT_PAUSE_S = 3.0
REFRESH_S = 0.05


class DemoError(Exception):
    """The demo cannot continue; `str()` is the reason."""


def main(once: bool) -> int:
    """Run the demo.

    Args:
        once: Exit after the figures and the checks, as without a terminal.

    Returns:
        0 if every page has the right vector and nothing was lost or doubled, else 1.
    """
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the worker too
    directory = Path(tempfile.mkdtemp(prefix="gibsey-demo-"))
    try:
        with Services() as services:
            worker = Worker(directory, services.settings(), services.kept_settings())
            passed = Demo(console, services, worker).run(stay=console.is_terminal and not once)
    except KeyboardInterrupt:
        console.print("\nInterrupted.")
        passed = False
    if passed:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        console.print(f"The worker's log is {directory / 'worker.log'}", soft_wrap=True)
    return 0 if passed else 1


class Demo:
    """One run of the demo.

    Args:
        console: The console for the output.
        services: The running services.
        worker: The worker, which `run` starts.
    """

    def __init__(self, console: Console, services: Services, worker: Worker) -> None:
        self._console, self._services, self._worker = console, services, worker
        self._feed = Feed(services)

    def run(self, *, stay: bool) -> bool:
        """Run the demo, with `stay` until Ctrl-C; return whether all checks passed."""
        try:
            self._worker.start()
            figures = self._measure()
            self._console.print()
            show_figures(self._console, self._services, figures)
            show_search(self._console, self._services)
            if stay:
                self._stay()
            code = self._worker.stop()
        except DemoError as error:
            self._console.print(f"[red]{error}[/]")
            self._console.print(self._worker.last_lines(), markup=False, soft_wrap=True)
            return False
        finally:
            self._worker.stop()
        stop = Check("the worker stopped cleanly", () if code == 0 else (f"exit code {code}",))
        checks = [*check_all(self._services, self._feed.bodies, self._feed.changes), stop]
        show_checks(self._console, checks)
        return all(check.passed for check in checks)

    def _measure(self) -> Figures:
        pages = stdlib_pages(REAL_PAGES if self._services.real_url else None)
        self._greet(len(pages))
        began = time.monotonic()
        self._backlog(pages)
        ended, embedder = self._services.rag.stats.last_at, self._services.ollama.stats
        seconds = max(ended - (embedder.first_at or began), 1e-9)
        busy = None if self._services.real_url else min(1.0, embedder.busy_s / seconds)
        edits = self._edits(REAL_EDITS if self._services.real_url else EDITS)
        return Figures(len(pages), seconds, busy, edits)

    def _greet(self, pages: int) -> None:
        real = self._services.real_url
        embedder = (
            f"the Ollama at {real}"
            if real
            else (
                "a fake that hashes words instead of using a model, and takes "
                f"{REQUEST_S * 1000:.0f} ms per request and {TEXT_S * 1000:.0f} ms per page"
            )
        )
        self._console.print(
            f"The stream reads {pages:,} pages of Python's documentation from Kafka, and stores "
            "their vectors in Stargate.\n"
            f"Embedder: {embedder}.\n"
            "Worker: python -m bytewax.run dataflow.main -w 2\n"
            f"Status page: [bold]{self._worker.status_url}[/]\n",
            soft_wrap=True,
        )

    def _backlog(self, pages: list[Page]) -> None:
        stored, notified = self._services.stargate.vectors.writes, self._services.rag.counts
        sender = threading.Thread(target=self._feed.backlog, args=(pages,), daemon=True)
        sender.start()

        def done() -> int:
            return min(len(stored), len(notified))

        try:
            self._follow("Pages", len(pages), done)
        finally:
            self._feed.stop()
            sender.join()

    def _follow(self, title: str, total: int, done: Callable[[], int]) -> None:
        completed, progress_at = 0, time.monotonic()
        with self._progress() as progress:
            task = progress.add_task(title, total=total)
            while (current := done()) < total:
                if current > completed:
                    completed, progress_at = current, time.monotonic()
                self._check_worker(time.monotonic() - progress_at)
                progress.update(task, completed=current)
                time.sleep(REFRESH_S)
            progress.update(task, completed=total)

    def _edits(self, count: int) -> list[float]:
        with self._progress() as progress:
            numbers = progress.track(range(count), description="Live edits")
            return [self._edit() for _ in numbers]

    def _edit(self) -> float:
        edit = self._feed.edit()
        self._check_worker(0.0)
        if edit.freshness_s is None:
            raise DemoError(f"The live edit of {edit.page_id} did not arrive in time.")
        return edit.freshness_s

    def _stay(self) -> None:
        self._console.print(
            "The demo edits a page every few seconds. Open the status page: "
            f"[bold]{self._worker.status_url}[/]\n"
            "To try the other commands, open another terminal:\n"
            f"  cd {self._worker.write_settings()}\n"
            f'  {Path(sys.executable).parent}/gibsey-embedder search "how to parse a date"\n'
            "You can also run audit, doctor and dead-letters there. Ctrl-C ends the demo.\n",
            soft_wrap=True,
        )
        stop = threading.Event()  # KeyboardInterrupt would abort an edit before it is counted
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        with self._console.status("") as line:
            while not stop.is_set():
                edit = self._edit()
                line.update(f"The last edit reached both services after {edit * 1000:.0f} ms")
                stop.wait(EDIT_PAUSE_S)
        self._console.print("Stopping…")

    def _check_worker(self, idle_s: float) -> None:
        if (code := self._worker.exit_code()) is not None:
            raise DemoError(f"The worker exited with code {code}. Its last lines:")
        if idle_s > STALL_TIMEOUT_S:
            raise DemoError(f"No page arrived for {idle_s:.0f} s. The worker's last lines:")

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self._console)
