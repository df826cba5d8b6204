"""The page itself: it stands alone, can be read aloud, and holds in every state of a sweep."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

import pytest
from page_cases import read_page
from report_cases import small_grid, sweep, trial

from sweeper.report.draw import VARIABLES, inline_svg
from sweeper.report.page import HERE, Page, build_page
from sweeper.report.record import SweepRecord

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
SCRIPT = "<script>alert('x')</script> & $x_1$ <b"


def page_of(record: SweepRecord) -> Page:
    return build_page(record, written=NOW, version="sweeper 0")


@pytest.fixture(scope="module")
def hostile() -> Page:
    """Return the page of a sweep in which everything goes wrong that can, under names that are HTML."""
    wild = {"objective": [2.0, 1e9, math.nan, math.inf], "grad_norm": [1.0, math.inf, math.nan, 3.0]}
    return page_of(
        sweep(
            [
                *small_grid().trials,
                trial(
                    {"batch_size": 8, "learning_rate": 1.0},
                    math.nan,
                    "pruned",
                    rule="non_finite",
                    curves=wild,
                    reason=f"loss is NaN {SCRIPT}",
                    by_guard=True,
                    name=SCRIPT,
                ),
                trial({"batch_size": 8, "learning_rate": 1e-3}, None, "fail", samples=0, reason=f"Trace\n{SCRIPT}"),
                trial({"batch_size": 8, "learning_rate": 1e-4}, None, "infeasible", samples=0, reason="too long"),
                trial({"batch_size": 16, "learning_rate": 1e-4}, None, "waiting", samples=0),
                trial({"batch_size": 16, "learning_rate": 1e-3}, 3.0, "running", samples=128),
            ],
            name=SCRIPT,
            standing="running",
            space_yaml=f"sweep: {SCRIPT}",
            provenance=(("git commit", SCRIPT),),
        )
    )


def test_the_page_stands_alone_and_can_be_read_aloud(hostile: Page) -> None:
    page = read_page(hostile.html)
    assert "This sweep is still running" in page.words
    assert "11 cells: 4 ran to the end, 1 pruned, 2 ended by a guard, 1 failed, 1 running, 1 not started, 1 cannot" in (
        page.words
    )


def test_names_that_are_html_are_shown_as_they_are_and_never_run(hostile: Page) -> None:
    page = read_page(hostile.html)
    assert "<script" not in hostile.html
    assert page.words.count(SCRIPT) >= 5, "title, heading, trial, reason, search space, provenance"


def test_the_paper_s_findings_stand_with_their_verdict_and_what_was_compared() -> None:
    record = sweep([trial({"batch_size": b, "learning_rate": r}, r + 1 / b) for b in (8, 32) for r in (1.0, 2.0, 3.0)])
    words = read_page(page_of(record).html).words
    assert "a lower learning rate ends better lowest against highest learning rate that ran to its end" in words
    assert "a larger batch ends better largest against smallest batch" in words
    assert "verdict effect 95% interval pairs" in words


def test_every_reason_stands_beside_its_trial(hostile: Page) -> None:
    words = read_page(hostile.html).words
    for cell in small_grid().trials:
        if cell.row.rule:
            assert f"{cell.row.name} {cell.row.rule}" in words
            assert cell.row.reason in words
    assert "0.500 to 1.00" in words, "the forecast"


def test_a_cell_that_was_never_started_stands_among_the_pruned_with_its_reason() -> None:
    never = trial({"batch_size": 128, "learning_rate": 1.0}, None, "pruned", samples=0, rule="skip_hopeless")
    words = read_page(page_of(sweep([*small_grid().trials, never])).html).words
    assert f"{never.row.name} skip_hopeless 0" in words
    assert never.row.reason in words


def test_pictures_follow_the_page_s_colours_and_share_no_id(hostile: Page) -> None:
    page = read_page(hostile.html)
    assert len(page.all("svg")) == len(hostile.pictures) + 1, "the curves are drawn once more, for phones"
    assert "var(--winner)" in hostile.pictures[0].svg + hostile.pictures[-1].svg
    assert all(picture.png.startswith(b"\x89PNG") for picture in hostile.pictures)


@pytest.mark.parametrize(
    "record",
    [
        sweep([trial({}, None, "waiting", samples=0)], standing="interrupted"),
        sweep([trial({"learning_rate": 1.0}, 2.0, "pruned", samples=64, rule="divergence", by_guard=True)]),
        sweep([trial({}, 0.5, name="only")], direction="maximize", objective="exact_match", test_sizes={"new": 8}),
    ],
    ids=["nothing has run", "nothing ran to its end", "one cell"],
)
def test_a_sweep_of_one_cell_in_any_state_has_a_page(record: SweepRecord) -> None:
    page = read_page(page_of(record).html)
    if record.summary.best is None:
        assert "None of 1 configuration ran to its end" in page.words
    else:
        assert "nothing to compare it with" in page.words


def test_an_svg_becomes_part_of_a_page() -> None:
    standalone = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg xmlns:xlink="x" width="72pt" height="36pt" viewBox="0 0 72 36">'
        '<!-- a name --><metadata>when</metadata><path id="p" style="fill: #0072b2; stroke: #1b1f24"/>'
        '<use xlink:href="#p" clip-path="url(#p)"/></svg>'
    )
    assert inline_svg(standalone, "a", "told", 96) == (
        '<svg role="img" aria-labelledby="told" style="max-width:96px;min-width:72px" xmlns:xlink="x" '
        'viewBox="0 0 72 36"><path id="a-p" style="fill: var(--complete); stroke: var(--ink)"/>'
        '<use xlink:href="#a-p" clip-path="url(#a-p)"/></svg>'
    )


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_text_stands_out_from_the_paper_in_light_and_dark() -> None:
    """A contrast of 4.5, as WCAG 2 asks of text (1.4.3); the light colours are those of the PNGs."""
    css = (HERE / "page.css").read_text()
    themes = [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    ]
    assert len(themes) == 2
    for theme in themes:
        for name in set(theme) - {"paper", "raised", "rule"}:
            for ground in ("paper", "raised") if name in ("ink", "muted") else ("paper",):
                bright, faint = sorted((luminance(theme[name]), luminance(theme[ground])), reverse=True)
                assert (bright + 0.05) / (faint + 0.05) >= 4.5, f"{name} on {ground}: {theme}"
    drawn = {name: colour for colour, name in VARIABLES.items() if name not in ("infeasible", "running", "waiting")}
    assert {name: themes[0][name] for name in drawn} == drawn
