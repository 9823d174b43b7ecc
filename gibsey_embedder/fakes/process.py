"""Processes that are started here: how they are ended, and a stand-in in one of its own.

A stand-in has its own so that its work does not slow the one that asks.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Any

import httpx

STOP_TIMEOUT_S = 5.0


def end(process: subprocess.Popen[Any], within_s: float = STOP_TIMEOUT_S) -> int:
    """Ask a process to end, kill it if it does not, and close its pipes; returns its exit code."""
    process.terminate()
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    return process.wait()


class StandInProcess:
    """A stand-in's process.

    Args:
        name: A module of `gibsey_embedder.fakes`: `ollama`, `openai`, `stargate`, `rag` or
            `kafka`.
        options: Its command-line options: `text_s=0.003` becomes `--text-s 0.003`, and a bare
            `--cheap` is `cheap=True`.

    Attributes:
        url: Where it listens; for `kafka` the broker's address.
    """

    def __init__(self, name: str, **options: str | float | bool) -> None:
        arguments: list[str] = []
        for option, value in options.items():
            if value is not False:
                arguments.append(f"--{option.replace('_', '-')}")
            if not isinstance(value, bool):
                arguments.append(str(value))
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"gibsey_embedder.fakes.{name}", *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the fake {name} did not start")

    @property
    def pid(self) -> int:
        """Its process id, for signals."""
        return self._process.pid

    def stats(self) -> dict[str, object]:
        """Its counts."""
        return dict(httpx.get(f"{self.url}/__stats__").json())

    def control(self, **order: object) -> None:
        """Sets a delay or a fault: `control(delay_s=0.02)`, `control(fault={"kind": "hang"})`.

        Raises:
            httpx.HTTPStatusError: It cannot be set.
        """
        httpx.post(f"{self.url}/__control__", json=order).raise_for_status()

    def stop(self) -> None:
        """Ends it."""
        end(self._process)

    def __enter__(self) -> StandInProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
