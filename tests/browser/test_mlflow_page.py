"""MLflow's own pages on a finished sweep, in a real browser: what one sees without a click."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import chromium
import mlflow_pages
import pytest
from chromium import Browser
from record_cases import SAMPLES, grid, mlflow_tables, play, sweep_info

from sweeper.adapters.mlflow.tracker import MlflowTracker

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(chromium.missing()), reason=chromium.missing())]
TRIALS = grid(learning_rates=(1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2))
DOOMED = TRIALS[3]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve a sweep of 14 trials, one of them pruned: MLflow by itself would chart 10."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "mlflow.db").write_bytes(mlflow_tables())
    (folder / "report").mkdir()
    (folder / "report" / "report.html").write_text("<h1>What the sweep taught</h1>")
    tracker = MlflowTracker(folder, flush_timeout_s=120)
    play(tracker, sweep_info(folder), TRIALS, explode=frozenset({DOOMED.name}))
    tracker.attach_report(folder / "report")
    tracker.flush()
    tracker.close()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with mlflow_pages.served(folder, port) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.browsing() as found:
        yield found


def test_the_address_opens_the_gradient_norm_of_all_trials_over_samples(address: str, browser: Browser) -> None:
    browser.open(address)
    charts = browser.wait(mlflow_pages.CHARTS, until=lambda charts: len(charts) > 2 and charts[2]["traces"])
    first = charts[0]
    assert first["title"] == "train/grad_norm"
    assert {trace["name"] for trace in first["traces"]} >= {trial.name for trial in TRIALS}
    lasts = {trace["name"]: trace["last"] for trace in first["traces"]}
    assert {lasts[trial.name] for trial in TRIALS if trial is not DOOMED} == {SAMPLES}, "the axis is samples seen"
    assert lasts[DOOMED.name] < SAMPLES
    assert first["top"] < 900, "in sight without scrolling"


def test_the_table_shows_verdicts_without_scrolling(address: str, browser: Browser) -> None:
    browser.open(address.replace("&compareRunsMode=CHART", ""))
    seen = browser.wait(mlflow_pages.SEEN, until=lambda texts: "non_finite" in texts)
    assert DOOMED.name in seen
    assert {"pruned", "complete"} <= set(seen)
    assert "train_loss is inf at 128 samples" in seen


def test_the_summary_run_tells_the_result_and_leads_to_the_report(address: str, browser: Browser) -> None:
    page = mlflow_pages.summary_path(address)
    browser.open(page)
    text = browser.wait("return document.body.innerText", until=lambda text: "ran to the end" in text)
    assert "best    b" in text
    assert "1 pruned" in text
    link = browser.ask("return [...document.querySelectorAll('a')].find(e => e.textContent == 'Report')?.href")
    browser.open(link)
    assert browser.frame() == "What the sweep taught"
