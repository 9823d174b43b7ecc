"""The demo: the real worker against the stand-ins, fed with Python's own documentation."""

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
STALLED_S = 90.0
EDIT_PAUSE_S = 3.0
REFRESH_S = 0.05


class DemoFaultError(Exception):
    """The demo cannot go on; the text says why."""


def main(once: bool) -> int:
    """Runs the demo.

    Args:
        once: End after the figures and the checks; so does a run without a terminal.

    Returns:
        0 if every page has its right vector, every notification received and nothing was lost or
        doubled; else 1.
    """
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the worker ends, too
    directory = Path(tempfile.mkdtemp(prefix="gibsey-demo-"))
    try:
        with Services() as services:
            worker = Worker(directory, services.settings(), services.kept_settings())
            good = Demo(console, services, worker).run(stay=console.is_terminal and not once)
    except KeyboardInterrupt:
        console.print("\nInterrupted.")
        good = False
    if good:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        console.print(f"The worker's log is {directory / 'worker.log'}", soft_wrap=True)
    return 0 if good else 1


class Demo:
    """One run.

    Args:
        console: Where it is shown.
        services: The stand-ins, started.
        worker: The worker, not yet started.
    """

    def __init__(self, console: Console, services: Services, worker: Worker) -> None:
        self._console, self._services, self._worker = console, services, worker
        self._feed = Feed(services)

    def run(self, *, stay: bool) -> bool:
        """Runs it all; with `stay` until Ctrl-C. Returns whether all was right."""
        try:
            self._worker.start()
            figures = self._measure()
            self._console.print()
            show_figures(self._console, self._services, figures)
            show_search(self._console, self._services)
            if stay:
                self._stay()
            code = self._worker.stop()
        except DemoFaultError as fault:
            self._console.print(f"[red]{fault}[/]")
            self._console.print(self._worker.last_lines(), markup=False, soft_wrap=True)
            return False
        finally:
            self._worker.stop()
        ended = Check("the worker ended in order", () if code == 0 else (f"exit code {code}",))
        checks = [*check_all(self._services, self._feed.bodies, self._feed.changes), ended]
        show_checks(self._console, checks)
        return all(check.good for check in checks)

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
                "a stand-in that hashes words (no model), as slow as one: "
                f"{REQUEST_S * 1000:.0f} ms a request and {TEXT_S * 1000:.0f} ms a page"
            )
        )
        self._console.print(
            f"{pages:,} pages of Python's documentation, by Kafka, to vectors in Stargate.\n"
            f"Embedder: {embedder}.\n"
            f"Worker: python -m bytewax.run dataflow.main -w 2; its status page is "
            f"[bold]{self._worker.status_url}[/]\n",
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
        seen, moved_at = 0, time.monotonic()
        with self._progress() as progress:
            task = progress.add_task(title, total=total)
            while (now := done()) < total:
                if now > seen:
                    seen, moved_at = now, time.monotonic()
                self._check_worker(time.monotonic() - moved_at)
                progress.update(task, completed=now)
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
            raise DemoFaultError(f"A live edit of {edit.page_id} never received.")
        return edit.freshness_s

    def _stay(self) -> None:
        self._console.print(
            "A page is edited every few seconds. Look at "
            f"[bold]{self._worker.status_url}[/]; Ctrl-C ends the demo.\n"
            "To try the commands meanwhile, in another terminal:\n"
            f"  cd {self._worker.keep_settings()}\n"
            f'  {Path(sys.executable).parent}/gibsey-embedder search "how to parse a date"\n'
            "and also: audit, doctor, dead-letters\n",
            soft_wrap=True,
        )
        ended = threading.Event()  # not KeyboardInterrupt: an edit under way must be counted
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        with self._console.status("") as line:
            while not ended.is_set():
                edit = self._edit()
                line.update(f"The last edit was in both services after {edit * 1000:.0f} ms")
                ended.wait(EDIT_PAUSE_S)
        self._console.print("Ending…")

    def _check_worker(self, still_s: float) -> None:
        if (code := self._worker.exit_code()) is not None:
            raise DemoFaultError(f"The worker ended with {code}. Its last lines:")
        if still_s > STALLED_S:
            raise DemoFaultError(f"Nothing received for {still_s:.0f} s. The worker's last lines:")

    def _progress(self) -> Progress:
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        return Progress(*columns, console=self._console)
