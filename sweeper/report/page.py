"""The page: every section's numbers gathered from the record, and put into the template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from sweeper.core.figures import count, duration, number, percent
from sweeper.core.record import TrialRow
from sweeper.report import sentences
from sweeper.report.costs import NAMES, costs
from sweeper.report.curves import Curves, learning_curves
from sweeper.report.draw import Picture, picture
from sweeper.report.draw_curves import paint_curves, paint_scatter
from sweeper.report.draw_heatmap import paint_heatmap
from sweeper.report.effects import effects
from sweeper.report.findings import TIE, findings
from sweeper.report.foretold import Scatter, scatters, table
from sweeper.report.grid import Panel, panels
from sweeper.report.noise import contest
from sweeper.report.record import ReportedTrial, Role, SweepRecord, value_text

HERE: Final = Path(__file__).parent
TEMPLATE: Final = "page.html.j2"
PAGE_NAME: Final = "report.html"
HALF_PAGE_PX: Final = 480
SIGNAL_NAMES: Final = {"grad_norm": "gradient norm", "train_loss": "training loss"}
STATE_NAMES: Final[dict[Role, str]] = {"winner": "best", **NAMES}


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A picture with its caption; ``narrow`` is drawn for phones where shrinking would make it unreadable."""

    caption_id: str
    title: str
    caption: str
    wide: Picture
    narrow: Picture | None = None

    @property
    def is_broad(self) -> bool:
        """Return whether it needs a line of the page for itself."""
        return self.wide.width_px > HALF_PAGE_PX


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """What ``sweeper report`` writes."""

    html: str
    pictures: tuple[Picture, ...]


def build_page(record: SweepRecord, *, written: datetime, version: str) -> Page:
    """Return the page of a sweep in any state; the same record and time give the same page."""
    found, leaders, curves = effects(record), contest(record), learning_curves(record)
    first = leaders.contenders[0].key if leaders.contenders else ""
    heatmaps = [_heatmap(record, panel, place) for place, panel in enumerate(panels(record, found, first), 1)]
    shown_curves = None if curves is None else _curves(record, curves)
    early = [_scatter(record, scatter) for scatter in scatters(record)]
    html = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            record=record,
            summary=record.summary,
            words=sentences,
            lead=sentences.lead_sentence(record, leaders),
            heatmaps=heatmaps,
            curves=shown_curves,
            scatters=early,
            findings=findings(record),
            tie=TIE,
            foretold=table(record.summary.signals),
            ended=[trial for trial in record.trials if record.role(trial) in ("pruned", "guard")],
            effects=found,
            contest=leaders,
            costs=costs(record),
            cells=_cells(record),
            axes=_axes(record),
            written=written.strftime("%Y-%m-%d %H:%M %Z").strip(),
            version=version,
        )
    )
    figures = [*heatmaps, *([shown_curves] if shown_curves else []), *early]
    return Page(html=html, pictures=tuple(figure.wide for figure in figures))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "count": count, "duration": duration, "percent": percent}
    environment.filters |= {"axis": value_text, "svg": _svg, "soft": _soft}
    environment.globals |= {"state_names": STATE_NAMES, "signal_names": SIGNAL_NAMES, "css": _css()}
    return environment


def _svg(drawn: Picture) -> Markup:
    """Let a drawing through unescaped: matplotlib wrote it, and turned every letter of a name into a shape."""
    return Markup(drawn.svg)


def _soft(name: str) -> Markup:
    """Let a long name break after an underscore where its column is narrow."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def _css() -> Markup:
    return Markup((HERE / "page.css").read_text(encoding="utf-8"))


def _heatmap(record: SweepRecord, panel: Panel, place: int) -> Figure:
    finals = [trial.row.objective for trial in record.ranked() if trial.row.objective is not None]
    paint = partial(paint_heatmap, panel, finals, maximize=record.maximize, last=record.milestones[-1])
    name = f"heatmap-{place}"
    return Figure(
        caption_id=f"{name}-caption",
        title=panel.title,
        caption=sentences.heatmap_sentence(record, panel),
        wide=picture(name, f"{name}-caption", paint),
    )


def _curves(record: SweepRecord, curves: Curves) -> Figure:
    goal = record.goal if curves.signal == record.objective else ""
    paint = partial(paint_curves, curves, goal=goal, resource=record.resource)
    return Figure(
        caption_id="curves-caption",
        title="",
        caption=sentences.curves_sentence(record, curves),
        wide=picture("curves", "curves-caption", partial(paint, narrow=False)),
        narrow=picture("curves-narrow", "curves-caption", partial(paint, narrow=True)),
    )


def _scatter(record: SweepRecord, scatter: Scatter) -> Figure:
    name = scatter.signal.replace("_", "-")
    paint = partial(paint_scatter, scatter, objective=record.objective, resource=record.resource)
    return Figure(
        caption_id=f"{name}-caption",
        title=SIGNAL_NAMES[scatter.signal].capitalize(),
        caption=sentences.scatter_sentence(record, scatter),
        wide=picture(name, f"{name}-caption", paint),
    )


def _axes(record: SweepRecord) -> Sequence[str]:
    return list(dict.fromkeys(axis for trial in record.trials for axis in trial.row.axes))


def _cells(record: SweepRecord) -> list[dict[str, Any]]:
    """Return every cell's line of the last table: completed ones best first, then the others by how far they came."""
    ranked = record.ranked()
    others = sorted((trial for trial in record.trials if trial not in ranked), key=lambda t: -t.row.samples_seen)
    return [_cell(record, trial) for trial in [*ranked, *others]]


def _cell(record: SweepRecord, trial: ReportedTrial) -> dict[str, Any]:
    role = record.role(trial)
    return {"row": trial.row, "state": STATE_NAMES[role], "role": role, "note": _note(trial.row)}


def _note(row: TrialRow) -> str:
    """Return what ended a cell that did not end by itself; a rule's whole reason stands in a table of its own."""
    lines = row.reason.strip().splitlines()
    said = row.rule or (lines[-1] if lines else "")
    notes = [said, "calibration" if row.calibration else "", f"held back from {row.held_back}" if row.held_back else ""]
    return "; ".join(note for note in notes if note)
