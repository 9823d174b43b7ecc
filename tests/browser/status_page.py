"""The status page in a real browser: headless Chromium, controlled by its driver."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

from tests.eventually import eventually

WITHIN_S = 20.0
UNKNOWN = "\N{EN DASH}"
"""The text of a missing figure."""
SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) {
    if (entry.hadRecentInput) continue;
    window.shifts.push([entry.value, entry.sources.map(({ node }) => node?.id || node?.className)]);
  }
}).observe({ type: "layout-shift", buffered: true });
"""
"""Runs before the page's own scripts, and records unexpected layout shifts."""


class StatusPage:
    """One tab.

    Args:
        browser: The path of the browser.
        driver: The path of the driver.
    """

    def __init__(self, browser: str, driver: str) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        options = ChromeOptions()
        options.binary_location = browser
        for argument in (
            "--headless=new",
            "--no-sandbox",  # root in a container has no sandbox, and the tests open only our own page
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={self._profile.name}",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self._driver = Chrome(options, Service(driver))
        self._tell("Page.addScriptToEvaluateOnNewDocument", source=SHIFTS)

    def close(self) -> None:
        """Close the browser."""
        self._driver.quit()
        self._profile.cleanup()

    # --- actions

    def open(self, url: str) -> None:
        """Open a URL, and wait until the page has figures."""
        self._driver.get(url)
        eventually(lambda: self.text("clock") != UNKNOWN, WITHIN_S)

    def leave(self) -> None:
        """Open an empty page."""
        self._driver.get("about:blank")

    def resize(self, width: int, height: int = 900) -> None:
        """Resize the window, in CSS pixels."""
        self._tell(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def prefer(self, scheme: str) -> None:
        """Set the system's preferred colour scheme: `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self._tell("Emulation.setEmulatedMedia", features=[feature])

    def press(self, *keys: str) -> None:
        """Press keys on the focused element."""
        self._driver.switch_to.active_element.send_keys(*keys)

    def tab(self) -> str:
        """Move the focus to the next element, and return its label."""
        self.press(Keys.TAB)
        return str(self.run("const e = document.activeElement; return e.id || e.innerText || ''"))

    # --- visible content

    def text(self, element: str) -> str:
        """Return the text of an element, by its id."""
        return str(self.run("return document.getElementById(arguments[0]).textContent", element))

    def field(self, path: str) -> str:
        """Return the text of the first element for a field of `/status.json`."""
        find = "return document.querySelector(`[data-field='${arguments[0]}']`).textContent"
        return str(self.run(find, path))

    def number(self, path: str) -> int:
        """Return the number in a field."""
        return int(self.field(path).replace(",", ""))

    def wait(self, found: Callable[[], object], within_s: float = WITHIN_S) -> None:
        """Wait until a condition on the page is true."""
        eventually(found, within_s)

    def colour(self) -> str:
        """Return the background colour."""
        return str(self.run("return getComputedStyle(document.body).backgroundColor"))

    def run(self, script: str, *arguments: object) -> Any:
        """Run JavaScript in the page."""
        return self._driver.execute_script(script, *arguments)

    def overflowing(self) -> Sequence[str]:
        """Return the elements that overflow the window horizontally."""
        found: Sequence[str] = self.run("""
            const width = document.documentElement.clientWidth;
            const inside = (e) => e.closest(".scroll, svg, .hidden-text, .skip, .u-wrap") === null;
            return [...document.querySelectorAll("body *")]
              .filter((e) => inside(e) && e.getBoundingClientRect().right > width + 0.5)
              .map((e) => `${e.tagName} ${e.id || e.className}`)
        """)
        return found

    def shifts(self) -> list[Any]:
        """Return the layout shifts since the page was opened, as shares of the window."""
        return list(self.run("return window.shifts"))

    # --- actions not see

    def errors(self) -> list[str]:
        """Return the errors and warnings in the console since the last call."""
        lines = self._driver.get_log("browser")
        return [line["message"] for line in lines if line["level"] in ("SEVERE", "WARNING")]

    def hosts(self) -> set[str]:
        """Return the hosts of the page's requests since the last call.

        The browser's own pages (`chrome:`), such as the first empty tab, are excluded.
        """
        events = [
            json.loads(line["message"])["message"] for line in self._driver.get_log("performance")
        ]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        urls = [urlsplit(params["request"]["url"]) for params in sent]
        return {url.netloc for url in urls if url.scheme not in ("chrome", "data")}

    def save(self, path: Path, *, whole: bool = True) -> None:
        """Save a picture of the page, or of the window only."""
        picture = self._tell(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole)
        )
        path.write_bytes(base64.b64decode(picture["data"]))

    def _clip(self, whole: bool) -> dict[str, object]:
        if not whole:
            return {}
        size = self._tell("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "scale": 1, **{k: size[k] for k in ("width", "height")}}}

    def _tell(self, command: str, **arguments: object) -> Any:
        return self._driver.execute_cdp_cmd(command, arguments)
