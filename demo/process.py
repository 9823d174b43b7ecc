"""A stand-in in a process of its own, so that its work does not slow the one that asks."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType

import httpx

STOP_TIMEOUT_S = 5.0


class StandInProcess:
    """A stand-in's process.

    Args:
        name: Its module in `demo`: `ollama`, `openai`, `stargate`, `rag` or `kafka`.
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
            [sys.executable, "-m", f"demo.{name}", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"demo.{name} did not start")

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
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> StandInProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
