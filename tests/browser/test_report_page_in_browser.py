"""A report in a real browser: nothing hangs over, phones get their own drawing, dark screens their own colours.

Needs Chromium: ``apt-get install chromium``. The page is shown in frames as wide as a phone and a desk screen, and what
the browser made of it is read back from the document that holds them.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / "unit" / "report"), str(Path(__file__).parents[1])]

from report_cases import small_grid  # noqa: E402

from sweeper.report.page import build_page  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]
WIDTHS = {"phone": 390, "desk": 1100}
MEASURE = """
const shown = (frame, css) => getComputedStyle(frame.contentDocument.querySelector(css)).display !== 'none';
addEventListener('load', () => {
  const told = {};
  for (const frame of document.querySelectorAll('iframe')) {
    const page = frame.contentDocument, boxes = [...page.body.querySelectorAll('*')].filter(e => !e.closest('svg'));
    const inside = e => e.closest('.scroll, .plot');
    told[frame.id] = {
      scrolls: page.documentElement.scrollWidth > page.documentElement.clientWidth,
      hangs_over: boxes.filter(e => !inside(e) && e.getBoundingClientRect().right > frame.clientWidth + 1).length,
      cut_pictures: [...page.querySelectorAll('.plot')].filter(e => e.scrollWidth > e.clientWidth + 1).length,
      wide: shown(frame, '.wide'), narrow: shown(frame, '.narrow'),
      paper: getComputedStyle(page.body).backgroundColor, ink: getComputedStyle(page.body).color,
      least_px: Math.min(...boxes.filter(e => e.textContent.trim()).map(e => parseFloat(getComputedStyle(e).fontSize))),
    };
  }
  document.getElementById('told').textContent = JSON.stringify(told);
});
"""


def look(folder: Path, *flags: str) -> dict[str, Any]:
    """Return what Chromium made of a report, by width."""
    assert CHROMIUM is not None
    page = build_page(small_grid(), written=datetime(2026, 1, 2, tzinfo=UTC), version="sweeper 0").html
    frames = "".join(
        f'<iframe id="{name}" style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(page)}"></iframe>'
        for name, width in WIDTHS.items()
    )
    (folder / "frames.html").write_text(f"<!doctype html><pre id=told></pre>{frames}<script>{MEASURE}</script>")
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *(f"--user-data-dir={folder / 'profile'}", "--window-size=1300,1000", *flags, "--dump-dom"),
            (folder / "frames.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout)
    assert found is not None, done.stderr
    told: dict[str, Any] = json.loads(html.unescape(found[1]))
    return told


def test_a_page_fits_a_phone_and_a_desk_and_follows_the_dark(tmp_path: Path) -> None:
    light, dark = look(tmp_path), look(tmp_path, "--force-dark-mode")
    for told in (light, dark):
        assert [told[name]["scrolls"] for name in WIDTHS] == [False, False]
        assert [told[name]["hangs_over"] for name in WIDTHS] == [0, 0]
        assert [told[name]["cut_pictures"] for name in WIDTHS] == [0, 0]
        assert [told[name]["wide"] for name in WIDTHS] == [False, True]
        assert [told[name]["narrow"] for name in WIDTHS] == [True, False]
        assert min(told[name]["least_px"] for name in WIDTHS) >= 12
    assert (light["phone"]["paper"], dark["phone"]["paper"]) == ("rgb(254, 254, 254)", "rgb(20, 23, 27)")
