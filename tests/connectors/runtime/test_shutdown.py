from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from connectors.runtime.shutdown import Shutdown

ROOT = Path(__file__).parents[3]

PROLOGUE = """
import hashlib, os, sys, threading, time
from connectors.observability import logs
from connectors.runtime.shutdown import Shutdown
logs.configure()
def in_c_code():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # for minutes, and no Python in between
def show(text):
    print(text, flush=True)
"""


class Ended(BaseException):
    """Raised instead of ending the process."""


def end(code: int):
    raise Ended(code)


@pytest.fixture
def start() -> Iterator:
    """Starts another program with a `Shutdown`, and waits until it is ready."""
    started: list[subprocess.Popen[str]] = []

    def begin(program: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROLOGUE + textwrap.dedent(program)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_handled_while_the_main_thread_is_inside_c_code(start, number):
    process = start("""
        shutdown = Shutdown()
        shutdown.install()
        shutdown.on_stop(lambda: show("stopping"))
        def worker():
            show("ready")
            shutdown.stopping.wait()
            show("worker ended")
            os._exit(7)
        threading.Thread(target=worker).start()
        in_c_code()
    """)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 7
    assert "worker ended" in out
    assert f"signal={signal.Signals(number).name}" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_process_at_once(start, number):
    process = start("""
        shutdown = Shutdown()
        shutdown.install()
        shutdown.on_stop(lambda: show("stopping"))
        show("ready")
        in_c_code()
    """)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "stopping\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert "second signal" in err


def test_the_watchdog_ends_the_process_and_logs_the_number_of_open_pages(start):
    process = start("""
        shutdown = Shutdown(watchdog_s=0.2)
        shutdown.install()
        shutdown.count_open_pages(lambda: 42)
        shutdown.at_end(lambda: show("final step"))
        show("ready")
        in_c_code()
    """)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == "final step\n"
    assert "some requests are still open" in err
    assert "pages=42" in err


@pytest.mark.parametrize(
    "step", ["lambda: threading.Event().wait()", "lambda: 1 / 0"], ids=["hangs", "fails"]
)
def test_the_watchdog_does_not_wait_for_final_steps(start, step):
    process = start(f"""
        shutdown = Shutdown(watchdog_s=0.1, final_steps_s=0.2)
        shutdown.install()
        shutdown.at_end({step})
        show("ready")
        in_c_code()
    """)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 0


def test_an_error_at_the_stop_does_not_block_later_signals(start):
    process = start("""
        shutdown = Shutdown()
        shutdown.install()
        shutdown.on_stop(lambda: 1 / 0)
        shutdown.on_stop(lambda: show("the next one"))
        show("ready")
        in_c_code()
    """)
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "the next one\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM


def test_the_watchdog_leaves_a_process_that_ends_in_time_alone(start):
    process = start("""
        shutdown = Shutdown()
        shutdown.install()
        shutdown.at_end(lambda: show("final step"))
        show("ready")
        shutdown.stopping.wait()
        shutdown.end()
        sys.exit(3)
    """)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert out == "final step\n"
    assert "still open" not in err


def test_a_fatal_error_in_a_worker_ends_the_process_with_one_line(start):
    process = start("""
        shutdown = Shutdown()
        shutdown.install()
        shutdown.at_end(lambda: show("final step"))
        def worker():
            with shutdown.guard("window"):
                raise ValueError("two\\nlines")
        show("ready")
        threading.Thread(target=worker, daemon=True).start()
        in_c_code()
    """)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert out == ""  # no commit of pages that may not be stored
    (line,) = err.splitlines()
    assert "where=window" in line
    assert "ValueError: two" in line


def test_a_fatal_error_ends_the_process_when_stderr_is_closed(start):
    process = start("""
        shutdown = Shutdown()
        show("ready")
        os.close(2)
        def worker():
            with shutdown.guard("window"):
                raise ValueError
        threading.Thread(target=worker, daemon=True).start()
        in_c_code()
    """)
    process.communicate(timeout=20)
    assert process.returncode == 1


# --- inside this process ---


def test_a_guard_makes_an_error_fatal_but_not_the_end_of_a_source():
    shutdown = Shutdown(exit_process=end)
    with pytest.raises(Ended) as ended, shutdown.guard("decode"):
        raise RuntimeError
    assert ended.value.args == (1,)
    with pytest.raises(StopIteration), shutdown.guard("kafka"):
        raise StopIteration


def test_the_cause_of_an_error_is_logged():
    error = RuntimeError("in a step")
    error.__cause__ = KeyError("the cause")
    with capture_logs() as lines, pytest.raises(Ended):
        Shutdown(exit_process=end).fatal(error, "window")
    assert "KeyError: 'the cause'" in lines[0]["error"]


def test_only_the_first_of_many_fatal_errors_is_logged():
    shutdown = Shutdown(exit_process=end)
    ended: list[int] = []

    def fail() -> None:
        try:
            shutdown.fatal(ValueError(), "window")
        except Ended:
            ended.append(1)

    threads = [threading.Thread(target=fail, daemon=True) for _ in range(8)]
    with capture_logs() as lines:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.05)
    assert len(ended) == len([line for line in lines if line["log_level"] == "error"]) == 1


def test_the_callbacks_of_a_stop_and_of_the_end_run_once():
    ended = threading.Event()
    shutdown = Shutdown(watchdog_s=0.01, exit_process=lambda code: ended.set())
    stops: list[str] = []
    steps: list[str] = []
    shutdown.on_stop(lambda: stops.append("stop"))
    shutdown.at_end(lambda: steps.append("step"))
    shutdown.stop()
    shutdown.stop()
    assert ended.wait(10)
    shutdown.end()
    assert (stops, steps) == (["stop"], ["step"])
