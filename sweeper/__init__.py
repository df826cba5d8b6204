"""Hyperparameter sweeps for fine-tuning small language models, pruned early and recorded truthfully.

    space = sweeper.load_space("quickstart")
    sweeper.plan(space)
    sweep = sweeper.run(space)
    sweeper.open("quickstart-1").best

Importing this package loads nothing but itself; what a call needs is imported by the call.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.api import Best, Plan, Space, Sweep, load_space, open, plan, run

__all__ = ["Best", "Plan", "Space", "Sweep", "load_space", "open", "plan", "run"]


class _Package(ModuleType):
    """This package, with the names of ``sweeper.api``.

    Two of them, ``plan`` and ``run``, are also modules of the package, which Python would set as its attributes once
    they are imported, whoever imports them. The functions stay what ``sweeper.plan`` and ``sweeper.run`` mean.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from sweeper import api

        return getattr(api, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
