"""Runs a fake in a process of its own, so that it does not slow its client down."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Any

import httpx

STOP_TIMEOUT_S = 5.0


def stop_process(process: subprocess.Popen[Any], timeout_s: float = STOP_TIMEOUT_S) -> int:
    """Terminate a process, kill it after the timeout, close its pipes, and return its exit code."""
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    return process.wait()


class FakeProcess:
    """A fake in a process of its own.

    Args:
        name: A module of `gibsey_embedder.fakes`: `ollama`, `openai`, `stargate`, `rag` or
            `kafka`.
        options: Command-line options: `text_s=0.003` becomes `--text-s 0.003`, and `cheap=True`
            becomes `--cheap`.

    Attributes:
        url: The URL of the fake; for `kafka`, the broker's address.
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
        assert self._process.stdout is not None  # noqa: S101 - Popen gets stdout=PIPE above
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the fake {name} did not start")

    @property
    def pid(self) -> int:
        """The process id, for signals."""
        return self._process.pid

    def stats(self) -> dict[str, object]:
        """Return the counters of the fake."""
        return dict(httpx.get(f"{self.url}/__stats__").json())

    def control(self, **values: object) -> None:
        """Set a delay or a fault: `control(delay_s=0.02)`, `control(fault={"kind": "hang"})`.

        Raises:
            httpx.HTTPStatusError: The fake does not accept the value.
        """
        httpx.post(f"{self.url}/__control__", json=values).raise_for_status()

    def stop(self) -> None:
        """Stop the process."""
        stop_process(self._process)

    def __enter__(self) -> FakeProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
