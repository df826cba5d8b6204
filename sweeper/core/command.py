"""What a user asks of a sweep from outside, while it runs or between two runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["stop", "unprune", "clone"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One request, kept in the study until the sweep's driver has answered it."""

    id: str
    """Unique; commands are taken up in the order of their ids."""
    kind: Kind
    """``stop``: end a trial, or the run; ``unprune``: bring a pruned trial back; ``clone``: run another config."""
    trial: str = ""
    """Fingerprint of the trial; empty means the whole sweep."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a clone changes, by axis name."""
    from_start: bool = False
    """Whether an unpruned trial begins anew although it has a checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """What the commands taken up now mean for whoever runs trials."""

    ended: tuple[str, ...] = ()
    """Fingerprints of trials that have been ended; whatever runs of them is to be cut off."""
    has_new_cells: bool = False
    stops_sweep: bool = False
