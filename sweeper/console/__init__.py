"""What a person sees in the terminal while a sweep runs and when it ends.

Views are fed the same events as the tracker of the record. Importing this package does not import rich.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from sweeper.console.live import LiveView
    from sweeper.console.plain import PlainView


def make_view(*, plain: bool = False, stream: TextIO | None = None) -> LiveView | PlainView:
    """Return a live table where ``stream`` (default: standard output) is a terminal that can show one, else lines.

    ``plain`` asks for lines anywhere. A terminal of kind ``dumb`` cannot redraw. ``NO_COLOR`` (https://no-color.org)
    takes the colours away and leaves the table.
    """
    stream = stream or sys.stdout
    if plain or not stream.isatty() or os.environ.get("TERM", "") in ("", "dumb"):
        from sweeper.console.plain import PlainView

        return PlainView(stream)
    from sweeper.console.live import LiveView

    return LiveView(stream)
