"""Make the pictures of MLflow's pages in docs/images from a finished sweep: ``python docs/screenshots.py FOLDER``.

For the README's: ``sweeper run search_spaces/quickstart.yaml --sweep quickstart-1``, then the folder of that sweep.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "browser"))

import chromium  # noqa: E402
import mlflow_pages  # noqa: E402

COLORS = 200
"""Enough for flat pages and 12 colours of trials; a quarter of the bytes."""
LEAF = "[...document.querySelectorAll('*')].find(e => !e.children.length && e.textContent.trim() == {!r})"
UNFOLD = LEAF.format("Show more") + "?.click()"
METRICS_TOP = "return " + LEAF.format("Metrics (0)") + "?.getBoundingClientRect().top"


def main(folder: Path, port: int = 5099) -> None:
    with mlflow_pages.served(folder, port) as charts, chromium.browsing(width=1500, height=1350) as browser:
        browser.open(charts.split("#")[0])
        browser.ask(mlflow_pages.NO_ASSISTANT)
        pages = {
            "mlflow-charts": (charts, "return document.querySelectorAll('.scatterlayer .trace').length > 60"),
            "mlflow-table": (charts.replace("&compareRunsMode=CHART", ""), _shows("early_dynamics")),
            "mlflow-summary": (mlflow_pages.summary_path(charts), _shows("ran to the end")),
        }
        for name, (address, ready) in pages.items():
            browser.open(address)
            browser.wait(ready)
            time.sleep(3)  # Charts grow into their places.
            browser.ask("document.querySelector('[data-component-id$=\"assistant.chat_panel.close\"]')?.click()")
            # Tools that a mouse shows and no mouse here hides.
            browser.ask("document.querySelectorAll('.modebar').forEach(e => e.remove())")
            browser.ask(UNFOLD)
            time.sleep(2)
            path = ROOT / "docs" / "images" / f"{name}.png"
            browser.picture(path)
            image = Image.open(path).convert("RGB")
            # A summary run has no metrics or params: below its description there are empty frames.
            below = browser.ask(METRICS_TOP)
            image = image.crop((0, 0, image.width, round(below) if below else image.height))
            image.quantize(COLORS).save(path, optimize=True)
            print(path, path.stat().st_size)


def _shows(text: str) -> str:
    return f"return document.body.innerText.includes({text!r})"


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
