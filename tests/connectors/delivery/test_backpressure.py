from __future__ import annotations

import threading
import time

import pytest

from connectors.delivery.backpressure import MOST_WAITING, Backpressure
from tests.connectors.delivery.manual_writer import in_thread
from tests.eventually import eventually


class Held:
    """A hold, and how many texts wait."""

    def __init__(self) -> None:
        self.waiting = 0
        self.asked = 0
        self.stopping = threading.Event()
        self.hold = Backpressure(self.count, self.stopping)

    def count(self) -> int:
        self.asked += 1
        return self.waiting


def test_an_epoch_is_closed_at_once_while_few_texts_wait():
    held = Held()
    held.waiting = MOST_WAITING
    began = time.monotonic()
    held.hold.wait()
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("end", ["fewer", "stop"])
def test_an_epoch_stays_open_until_fewer_texts_wait_or_a_stop_is_asked_for(end):
    held = Held()
    held.waiting = MOST_WAITING + 1
    waiting = in_thread(held.hold.wait)
    eventually(lambda: held.asked > 1)
    assert waiting.is_alive()
    if end == "fewer":
        held.waiting = MOST_WAITING
    else:
        held.stopping.set()
    waiting.join(10)
    assert not waiting.is_alive()
