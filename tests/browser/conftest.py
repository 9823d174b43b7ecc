"""A stream, and the status page of its worker in a browser.

TEST_BROWSER, TEST_BROWSER_DRIVER   Chromium's program and its driver's
TEST_BROWSER_PICTURES               a folder where pictures of the page are kept; none: not kept
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
    """An empty tab of its own."""
    page = StatusPage(given("TEST_BROWSER"), given("TEST_BROWSER_DRIVER"))
    try:
        yield page
    finally:
        page.close()


@pytest.fixture
def keep(page: StatusPage) -> Callable[[str], None]:
    """Keeps a picture of the page under a name, where a folder for it is given."""
    folder = os.environ.get("TEST_BROWSER_PICTURES", "")

    def keep(name: str) -> None:
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.save(Path(folder, f"{name}.png"))

    return keep
