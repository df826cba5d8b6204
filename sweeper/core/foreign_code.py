"""Whether a sweep runs code that ships with a model, as one line for people."""

from __future__ import annotations

from collections.abc import Iterable

from sweeper.core.config import TrialConfig


def foreign_code(configs: Iterable[TrialConfig]) -> str:
    """Return which models' own code will run (``model.trust_remote_code``), empty where none does."""
    trusted = sorted({config.model.path for config in configs if config.model.trust_remote_code})
    return f"model.trust_remote_code is on: code that ships with {', '.join(trusted)} will run" if trusted else ""
