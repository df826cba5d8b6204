"""A headless Chromium, driven over WebDriver. Needs ``apt-get install chromium chromium-driver`` and selenium."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
PATIENCE_S = 90
"""Longest wait for a page: MLflow's takes 2 s on an idle machine, 20 s on a busy one."""


def missing() -> str:
    """Return what a driven browser needs and this machine lacks; empty where there is all of it."""
    if CHROMIUM is None or DRIVER is None:
        return "needs Chromium and its driver: apt-get install chromium chromium-driver"
    return "" if importlib.util.find_spec("selenium") else "needs selenium: pip install 'sweeper[dev]'"


class Browser:
    """One window."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    def open(self, address: str) -> None:
        """Open a page; one that differs behind its ``#`` alone is loaded anew too."""
        self._driver.get("about:blank")
        self._driver.get(address)

    def ask(self, script: str, *arguments: Any) -> Any:
        """Return what a piece of JavaScript returns."""
        return self._driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: Any, until: Callable[[Any], Any] = bool) -> Any:
        """Ask until the answer is good, and return it.

        Raises:
            TimeoutException: it did not become good; the message holds the last answer.
        """
        from selenium.webdriver.support.ui import WebDriverWait

        last: list[Any] = [None]

        def good(driver: Any) -> bool:
            last[0] = driver.execute_script(script, *arguments)
            return bool(until(last[0]))

        waiting = WebDriverWait(self._driver, PATIENCE_S, poll_frequency=0.25)
        waiting.until(good, message=f"{script}: {last[0]!r}")
        return last[0]

    def frame(self) -> str:
        """Return the text of the page's one frame, once it has some; a sandboxed one keeps scripts outside away."""
        self.wait("return document.querySelectorAll('iframe').length == 1")
        self._driver.switch_to.frame(0)
        try:
            return str(self.wait("return document.body?.innerText ?? ''"))
        finally:
            self._driver.switch_to.default_content()

    def picture(self, path: Path) -> None:
        self._driver.save_screenshot(str(path))


@contextmanager
def browsing(width: int = 1500, height: int = 1100) -> Iterator[Browser]:
    """Start a browser with a fresh profile; it is gone afterwards."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # The sandbox needs rights that a container's root does not have.
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--window-size={width},{height}")
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
