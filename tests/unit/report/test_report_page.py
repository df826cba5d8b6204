"""The page itself: it stands alone, can be read aloud, and holds in every state of a sweep."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from page_cases import read_page
from report_cases import small_grid, sweep, trial

from sweeper.report.draw import inline_svg
from sweeper.report.page import Page, build_page
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


def test_every_reason_stands_beside_its_trial(hostile: Page) -> None:
    words = read_page(hostile.html).words
    for cell in small_grid().trials:
        if cell.row.rule:
            assert f"{cell.row.name} {cell.row.rule}" in words
            assert cell.row.reason in words
    assert "0.500 to 1.00" in words, "the forecast"


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
        '<svg role="img" aria-labelledby="told" style="max-width:96px;min-width:76px" xmlns:xlink="x" '
        'viewBox="0 0 72 36"><path id="a-p" style="fill: var(--complete); stroke: var(--ink)"/>'
        '<use xlink:href="#a-p" clip-path="url(#a-p)"/></svg>'
    )
