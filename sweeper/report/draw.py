"""Pictures that follow the page: drawn once in the light theme, their colours turned into CSS variables in the SVG.

So one picture serves light and dark screens and print, and the PNG beside the page is the light one.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sweeper.report.record import Role

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1b1f24"
MUTED: Final = "#5a626d"
RULE: Final = "#dfe3e8"
PAPER: Final = "#fefefe"
COLOURS: Final[dict[Role, str]] = {
    "winner": "#00795c",
    "complete": "#0072b2",
    "pruned": "#a86200",
    "guard": "#a3336f",
    "failed": "#6b7380",
    "infeasible": "#6b7381",
    "running": "#6b7382",
    "waiting": "#6b7383",
}
"""Okabe and Ito's palette, "Color Universal Design" (2008), darkened to a contrast of 4.5 on white; the greys differ by
a shade that nobody sees, so that each can be found again in the SVG."""
VARIABLES: Final = {INK: "ink", MUTED: "muted", RULE: "rule", PAPER: "paper"} | {
    colour: role for role, colour in COLOURS.items()
}
"""CSS variable of each colour; ``page.css`` gives all of them a light and a dark value."""
STYLE: Final[dict[str, Any]] = {
    "svg.fonttype": "path",
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
PNG_DPI: Final = 160
CSS_DPI: Final = 96


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One drawing in both forms."""

    name: str
    """Name of the PNG without its ending; also begins every id inside the SVG."""
    svg: str
    png: bytes
    width_px: int
    """Width at which its text has the size of small print on the page."""


def picture(name: str, caption_id: str, paint: Callable[[], Figure]) -> Picture:
    """Return what ``paint`` draws, named for screen readers by the element ``caption_id``.

    Names in the picture may hold any character: what the font lacks is drawn as an empty box.
    """
    import matplotlib

    style: Any = {**STYLE, "svg.hashsalt": name}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = paint()
        svg, png = io.StringIO(), io.BytesIO()
        figure.savefig(svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=PNG_DPI, facecolor="white")
    width = round(float(figure.get_size_inches()[0]) * CSS_DPI)
    text = inline_svg(svg.getvalue(), name, caption_id, width)
    return Picture(name=name, svg=text, png=png.getvalue(), width_px=width)


def inline_svg(text: str, name: str, caption_id: str, width_px: int) -> str:
    """Return a standalone SVG as part of a page: no prolog, ids of its own, colours from the page's variables."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    # Below three quarters of its size the text is too small to read: then the picture scrolls in its own box.
    size = f"max-width:{width_px}px;min-width:{3 * width_px // 4}px"
    head = f'<svg role="img" aria-labelledby="{caption_id}" style="{size}"'
    opening, rest = text.split(">", 1)
    kept = re.sub(r'\s(width|height)="[^"]*"', "", opening.removeprefix("<svg"))
    return f"{head}{kept}>{rest}".strip()


def thousands(axes: Axes) -> None:
    """Set the ticks of the horizontal axis as whole numbers with thousands set apart."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
