"""Hyperparameter sweeps for fine-tuning small language models, pruned early and recorded truthfully.

    space = sweeper.load_space("quickstart")
    sweeper.plan(space)
    sweep = sweeper.run(space)
    sweeper.open("quickstart-1").best

Importing this package loads nothing but itself; what a call needs is imported by the call. No module of the package
has a name of ``__all__``: Python would put the module where the function belongs once anybody imported it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.api import Best, Plan, Space, Sweep, load_space, open, plan, run

__all__ = ["Best", "Plan", "Space", "Sweep", "load_space", "open", "plan", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sweeper import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
