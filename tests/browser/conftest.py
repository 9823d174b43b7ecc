"""Fixtures with a stream, and with the status page of its worker in a browser.

TEST_BROWSER, TEST_BROWSER_DRIVER   the paths of Chromium and of its driver
TEST_BROWSER_PICTURES               a directory for pictures of the page; empty: none
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.status_page import StatusPage
from tests.flow.conftest import stream
from tests.real.servers import given

__all__ = ["keep", "page", "stream"]


@pytest.fixture
def page() -> Iterator[StatusPage]:
    """A new, empty tab."""
    page = StatusPage(given("TEST_BROWSER"), given("TEST_BROWSER_DRIVER"))
    try:
        yield page
    finally:
        page.close()


@pytest.fixture
def keep(page: StatusPage) -> Callable[[str], None]:
    """Return a function that saves a picture of the page, if there is a directory for it."""
    folder = os.environ.get("TEST_BROWSER_PICTURES", "")

    def keep(name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.save(Path(folder, f"{name}.png"))

    return keep
