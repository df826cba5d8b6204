from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from record_cases import grid, measurements, play, play_trial, sweep_info, trial_info
from rich.console import Console

from sweeper.console import make_view
from sweeper.console.live import LiveView
from sweeper.console.plain import PlainView
from sweeper.core.figures import number
from sweeper.core.lifecycle import TrialState
from sweeper.core.verdict import proceed


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _clock() -> float:
    return 100.0


def _live(width: int, height: int = 24) -> LiveView:
    console = Console(file=_Terminal(), width=width, height=height, force_terminal=True, color_system=None)
    return LiveView(console.file, now_s=_clock, console=console)


def _drawn(view: LiveView, width: int, height: int = 24) -> list[str]:
    paper = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    paper.print(view)
    return paper.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_lines_go_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert isinstance(make_view(stream=io.StringIO()), PlainView)
    assert isinstance(make_view(stream=_Terminal()), LiveView)
    assert isinstance(make_view(stream=_Terminal(), plain=True), PlainView)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_view(stream=_Terminal()), PlainView)


def test_no_color_leaves_the_table_and_takes_the_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = _Terminal()
    view = make_view(stream=stream)
    assert isinstance(view, LiveView)
    play(view, sweep_info(Path("/s")), grid())
    assert "\x1b[3" not in stream.getvalue().replace("\x1b[?25", "")


def test_plain_lines_tell_each_event_once() -> None:
    stream = io.StringIO()
    trials = grid(batch_sizes=(64,))
    play(PlainView(stream, now_s=_clock), sweep_info(Path("/s")), trials, explode=frozenset({trials[1].name}))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "sweep made-up: minimize heldout_loss, 4 milestones to 256 samples; in /s"
    mine = [line for line in lines if trials[1].name in line]
    assert "start" in mine[0]
    assert mine[-1].endswith("pruned b64-lr1e-3  128/256  non_finite: train_loss is inf at 128 samples")
    assert sum(" done " in line for line in lines) == 1
    assert "best so far" in next(line for line in lines if " done " in line)


def test_a_failed_trial_shows_the_last_line_of_its_detail() -> None:
    stream = io.StringIO()
    view = PlainView(stream, now_s=_clock)
    view.open_sweep(sweep_info(Path("/s")))
    view.close_trial(trial_info(), TrialState.FAIL, None, {}, "Traceback:\n  x\nMemoryError: rank 1\n")
    assert stream.getvalue().splitlines()[-1].endswith("fail   b32-lr1e-3  0/256  MemoryError: rank 1")


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits_any_width_and_marks_the_best(width: int) -> None:
    view, sweep = _live(width), sweep_info(Path("/s"))
    view.open_sweep(sweep)
    rows = [play_trial(view, sweep, trial) for trial in grid()]
    view.close()
    lines = _drawn(view, width)
    assert max(map(len, lines)) <= width
    best = min(rows, key=lambda row: row.objective or 0)
    assert [line.split()[0] for line in lines if " best " in line and "sweep" not in line] == [best.name]


def test_a_thousand_trials_show_the_running_the_best_the_latest_and_counts() -> None:
    view, sweep = _live(100), sweep_info(Path("/s"), milestones=1)
    view.open_sweep(sweep)
    for index in range(300):
        play_trial(view, sweep, trial_info(32, 1e-5 * (index + 1)))
    running = trial_info(64, 1e-3)
    view.open_trial(running)
    view.close()
    lines = _drawn(view, 100)
    assert len(lines) <= 24
    assert "300/301 ended" in lines[1]
    assert "1 running" in lines[1]
    assert lines[3].startswith(running.name)
    assert " best " in lines[4]
    assert lines[5].startswith("b32-lr0.003") or lines[5].startswith("b32-lr3e-3")


def test_running_trials_show_progress_signals_and_what_the_judge_said() -> None:
    view, sweep, trial = _live(120), sweep_info(Path("/s")), trial_info()
    view.open_sweep(sweep)
    view.open_trial(trial)
    first = next(measurements(trial, sweep.milestones))
    view.measured(trial, first, proceed("early_dynamics", "ranks 2 of 4", first.samples_seen), 0)
    view.close()
    line = _drawn(view, 120)[3]
    for part in (trial.name, "running", "64", "3.750", "1.750", "early_dynamics  ranks 2 of 4"):
        assert part in line


def test_the_cursor_comes_back_however_the_view_is_closed() -> None:
    console = Console(file=_Terminal(), width=80, force_terminal=True, legacy_windows=False)
    view = LiveView(console.file, console=console)
    view.open_sweep(sweep_info(Path("/s")))
    view.close()
    view.close()
    assert console.file.getvalue().count("\x1b[?25h") == 1  # type: ignore[attr-defined]


def test_what_ended_before_this_process_counts_and_can_be_the_best() -> None:
    sweep, trials = sweep_info(Path("/s")), grid()
    silent = PlainView(io.StringIO(), now_s=_clock)
    silent.open_sweep(sweep)
    earlier = [play_trial(silent, sweep, trial) for trial in trials[:2]]
    waiting = replace(earlier[0], fingerprint="other", name="other", state="waiting")

    stream = io.StringIO()
    plain, live = PlainView(stream, now_s=_clock), _live(100)
    for view in (plain, live):
        view.open_sweep(sweep)
        view.recall([*earlier, waiting])
        play_trial(view, sweep, trials[2])
    live.close()
    assert "2 cells of 2 ended before; 0 to go" in stream.getvalue()
    assert "best so far" not in stream.getvalue()
    lines = _drawn(live, 100)
    assert f"best {number(earlier[1].objective)} {earlier[1].name}" in lines[0]
    assert "3/3 ended" in lines[1]
