"""The search space: fixed settings, axes, and the exact grid of cells they span.

Every combination of axis values is one cell, in the order of the YAML file, exactly once.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sweeper.core.config import DataConfig, LoraConfig, ModelConfig, TrainConfig, TrialConfig, fingerprint
from sweeper.core.decode import DecodeError, decode, encode, nearest
from sweeper.core.errors import InputError
from sweeper.core.evaluation import EvalConfig
from sweeper.core.objective import Objective, check_objective
from sweeper.core.program import OWN, ProgramConfig, check_names
from sweeper.core.search import SearchConfig
from sweeper.core.sections import OrderConfig, Resources, Tracking

Mode = Literal["stop", "promote"]

_AXIS_SECTIONS = {"model": ModelConfig, "data": DataConfig, "lora": LoraConfig}
_SETTINGS = "settings."
_SHORT_AXIS = {"batch_size": "b", "learning_rate": "lr", "warmup_steps": "w", "warmup_samples": "ws"}
_SHORT_AXIS |= {"warmup_ratio": "wr", "seed": "s", "schedule": ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchSpace:
    """A whole sweep as its YAML file states it."""

    sweep: str
    """Name of the sweep; letters, digits, dot, dash and underscore."""
    model: ModelConfig
    """May be left out where ``trial`` is given."""
    data: DataConfig
    """May be left out where ``trial`` is given."""
    grid: Mapping[str, tuple[Any, ...]]
    """The axes: any ``train`` key, or ``lora.KEY`` / ``model.KEY`` / ``data.KEY`` / ``settings.NAME`` (of ``trial``),
    each with the list of its values."""
    train: Mapping[str, Any] = field(default_factory=dict)
    """Training settings that all cells share."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    objective: Objective = field(default_factory=Objective)
    search: SearchConfig = field(default_factory=SearchConfig)
    """``grid`` runs every cell; ``local`` those around a start, on from whichever is better."""
    order: OrderConfig = field(default_factory=OrderConfig)
    pruner: tuple[Any, ...] = ("early_dynamics",)
    """Pruners by name, asked in turn; guards come first unless left out by ``guards: false``."""
    mode: Mode = "stop"
    """``stop``: each trial trains until it ends. ``promote``: every cell is trained a little; then the most promising
    trials go on first, one rung at a time, while the others are paused."""
    hold_back: float = 0.0
    """Share of the trials that would be pruned which run on to their end, to measure how often a prune is wrong."""
    resources: Resources = field(default_factory=Resources)
    tracking: Tracking = field(default_factory=Tracking)
    trial: ProgramConfig | None = None
    """A trainer of your own in place of the native one."""

    @property
    def calibration(self) -> int:
        """Calibration cells of this sweep: in mode ``promote`` the first ends come from promotions."""
        return self.order.calibration if self.mode == "stop" else 0

    @staticmethod
    def expand_shorthand(plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the full form of what a user may write.

        A trainer of one's own brings its model and its data, and ``search: local`` names its method alone.
        """
        full = {"model": {"path": OWN}, "data": {"train": [OWN]}, **plain} if plain.get("trial") else dict(plain)
        if isinstance(full.get("search"), str):
            full["search"] = {"method": full["search"]}
        return full

    def __post_init__(self) -> None:
        if not self.sweep or self.sweep.startswith(".") or not set(self.sweep) <= _NAME_CHARACTERS:
            raise InputError("must be letters, digits, dot, dash or underscore", where="sweep", got=self.sweep)
        if len(self.sweep) > _MAX_NAME:
            raise InputError(f"must have at most {_MAX_NAME} characters", where="sweep", got=len(self.sweep))
        if not self.grid:
            raise InputError("needs at least one axis", where="grid", got=self.grid, mend="e.g. learning_rate: [1e-5]")
        if not 0 <= self.hold_back <= 1:
            raise InputError("must be in [0, 1]", where="hold_back", got=self.hold_back)
        if self.trial is None:
            check_objective(self.objective, self.eval, self.data)
        elif self.resources.checkpoint_every is not None:
            raise InputError("a trainer of your own is not checkpointed", where="resources", got="checkpoint_every")
        if self.mode == "promote":
            _check_promotion(self)


_MAX_NAME = 100
"""It names a folder, beside what is put around it; file systems take 255 bytes."""
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One point of the grid: the config of one trial."""

    index: int
    """Position in the grid's own order, from 0."""
    axes: Mapping[str, Any]
    config: TrialConfig
    fingerprint: str
    name: str
    """Readable and unique in its sweep, e.g. ``b3840-lr2e-5-w0``."""


def expand(space: SearchSpace) -> tuple[Cell, ...]:
    """Return every cell of the grid in its own order.

    Raises:
        DecodeError: an axis has no values, an unknown name, a value its key does not allow, or a repeated value.
    """
    for axis, values in space.grid.items():
        _check_axis(space, axis, values)
    _check_command(space)
    _check_search(space)
    shared = _shared(space)
    cells: list[Cell] = []
    seen: dict[str, Cell] = {}
    for index, values in enumerate(itertools.product(*space.grid.values())):
        axes = dict(zip(space.grid, values, strict=True))
        config = _cell_config(space, shared, axes)
        cell = Cell(index=index, axes=axes, config=config, fingerprint=fingerprint(config), name=cell_name(axes))
        if cell.fingerprint in seen:
            raise DecodeError(
                "two cells are the same trial", path=("grid",), got=[seen[cell.fingerprint].name, cell.name]
            )
        seen[cell.fingerprint] = cell
        cells.append(cell)
    return tuple(cells)


def cell_name(axes: Mapping[str, Any]) -> str:
    """Return the readable name of a cell, e.g. ``b256-lr1e-3-w0`` or ``lr2e-5-cosine``."""
    parts = []
    for axis, value in axes.items():
        key = axis.rsplit(".", 1)[-1]
        text = short_number(value) if isinstance(value, (int, float)) else str(value)
        parts.append(_SHORT_AXIS.get(axis, key + "=") + text.replace("/", "_"))
    return "-".join(parts)


def short_number(value: float) -> str:
    """Return the shortest usual form: ``2e-5``, ``0.03``, ``3840``."""
    if isinstance(value, bool) or value == 0 or 0.01 <= abs(value) < 1e6:
        return f"{value:.12g}"
    mantissa, exponent = f"{value:.11e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _check_axis(space: SearchSpace, axis: str, values: Sequence[Any]) -> None:
    if space.trial is not None and axis.startswith(_SETTINGS):
        _check_values(axis, values, fixed=space.trial.settings, path=("trial", "settings"))
        return
    section, _, key = axis.rpartition(".")
    owner = _AXIS_SECTIONS.get(section) if section else TrainConfig
    known = {f.name for f in dataclasses.fields(owner)} if owner else set()
    if key not in known:
        valid = [f.name for f in dataclasses.fields(TrainConfig)]
        valid += [f"{name}.{f.name}" for name, cls in _AXIS_SECTIONS.items() for f in dataclasses.fields(cls)]
        raise DecodeError("unknown axis", path=("grid", axis), got=axis, mend=nearest(axis, valid))
    if section == "lora" and not isinstance(space.train.get("lora", {}), Mapping):
        raise DecodeError("must be a mapping of keys to values", path=("train", "lora"), got=space.train["lora"])
    fixed: Mapping[str, Any] = {"": space.train, "lora": space.train.get("lora", {})}.get(section, {})
    _check_values(axis, values, fixed=fixed, path=("train", *([section] if section else [])))


def _check_values(axis: str, values: Sequence[Any], *, fixed: Mapping[str, Any], path: tuple[str, ...]) -> None:
    """``fixed`` holds the keys of the axis's section that all cells share, and ``path`` leads to them."""
    key = axis.removeprefix(_SETTINGS) if axis.startswith(_SETTINGS) else axis.rsplit(".", 1)[-1]
    if key in fixed:
        raise DecodeError("is both fixed and an axis", path=(*path, key), got=axis, mend="keep it in grid only")
    if not values:
        raise DecodeError("an axis needs at least one value", path=("grid", axis), got=[])
    for index, value in enumerate(values):
        if any(value == earlier and type(value) is type(earlier) for earlier in values[:index]):
            raise DecodeError("value is repeated: its cells would be duplicates", path=("grid", axis, index), got=value)


def _check_search(space: SearchSpace) -> None:
    if space.search.is_local and "seed" in space.grid:
        mend = "leave it out; sweeper confirm runs the leaders again with fresh seeds"
        raise DecodeError("local search would pick the luckiest seed", path=("grid", "seed"), got="seed", mend=mend)
    for axis, value in space.search.start.items():
        path = ("search", "start", axis)
        if axis not in space.grid:
            raise DecodeError("is no axis of the grid", path=path, got=axis, mend=nearest(axis, space.grid))
        if value not in space.grid[axis]:
            raise DecodeError("is no value of its axis", path=path, got=value, mend=f"one of {list(space.grid[axis])}")


def _check_command(space: SearchSpace) -> None:
    if space.trial is None:
        return
    settings = {*space.trial.settings, *(a.removeprefix(_SETTINGS) for a in space.grid if a.startswith(_SETTINGS))}
    try:
        check_names(space.trial, {f.name: None for f in dataclasses.fields(TrainConfig)}, settings)
    except InputError as error:
        raise DecodeError(error.rule, path=("trial", "command"), got=error.got, mend=error.mend) from error


def _shared(space: SearchSpace) -> dict[str, Any]:
    """Return what the configs of all cells have in common, as plain sections."""
    plain = {"model": encode(space.model), "data": encode(space.data), "eval": encode(space.eval)}
    return plain | {"train": dict(space.train), "trial": encode(space.trial)}


def _cell_config(space: SearchSpace, shared: Mapping[str, Any], axes: Mapping[str, Any]) -> TrialConfig:
    plain = {name: dict(section) if isinstance(section, dict) else section for name, section in shared.items()}
    if space.trial is not None:
        plain["trial"]["settings"] = dict(plain["trial"]["settings"])
    for axis, value in axes.items():
        if space.trial is not None and axis.startswith(_SETTINGS):
            plain["trial"]["settings"][axis.removeprefix(_SETTINGS)] = value
            continue
        section, _, key = axis.rpartition(".")
        if section == "lora":
            plain["train"]["lora"] = {**plain["train"].get("lora", {}), key: value}
        else:
            plain[section or "train"][key] = value
    try:
        return decode(TrialConfig, plain)
    except DecodeError as error:
        raise _at_axis(error, space, axes) from error


def _at_axis(error: DecodeError, space: SearchSpace, axes: Mapping[str, Any]) -> DecodeError:
    """Point at the axis value in ``grid`` where that is what the user wrote."""
    section, *rest = error.path
    # The longest axis name that leads to the culprit: train.lora.rank is axis lora.rank, or else axis lora.
    parts = [str(part) for part in (rest if section == "train" else error.path)]
    names = [".".join(parts[:length]) for length in range(len(parts), 0, -1)]
    axis = next((name for name in names if name in axes), None)
    if axis is None:
        return error
    position = list(space.grid[axis]).index(axes[axis])
    return DecodeError(error.rule, path=("grid", axis, position), got=error.got, mend=error.mend)


def _check_promotion(space: SearchSpace) -> None:
    """Refuse what cannot be paused, or of which nothing is known while it is."""
    if space.search.is_local:
        rule = "local search has an order of its own"
        raise InputError(rule, where="mode", got="promote", mend="search: grid, or mode: stop")
    if space.trial is not None:
        raise InputError("a trainer of your own cannot be paused", where="mode", got="promote", mend="mode: stop")
    if space.eval.milestones < 2:
        mend = "eval.milestones: 10, or mode: stop"
        raise InputError("a trial is paused between milestones, and has one", where="mode", got="promote", mend=mend)
    if space.objective.metric.split("/")[0] not in space.eval.metrics:
        raise InputError(
            f"{space.objective.metric} is not measured before a trial's end: there is nothing to promote by",
            where="mode",
            got="promote",
            mend="add it to eval.metrics, or mode: stop",
        )
