"""Phased data: sizes of the phases, and settings that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeper.adapters.yaml_space import load_space
from sweeper.core.config import DataConfig
from sweeper.core.errors import InputError
from sweeper.core.phases import Phase, phases_of


def data(*train: str, **settings: Any) -> DataConfig:
    return DataConfig(train=train or ("a.jsonl", "b.jsonl"), **settings)


def test_stacked_data_is_one_phase() -> None:
    assert phases_of(data(), [3, 4]) == (Phase(own=7),)


def test_files_are_phases_in_their_order() -> None:
    found = phases_of(data(strategy="phased", replay_share=0.5), [3, 4])
    assert found == (Phase(own=3), Phase(own=4, replay=4))
    assert found[1].samples == 8


def test_quantiles_differ_by_one_sample_at_most() -> None:
    found = phases_of(data("a", strategy="phased", phase_by="answer_length", phases=3), [11])
    assert [phase.own for phase in found] == [4, 4, 3]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"phases": 1}, "phases"),
        ({"replay_share": 1.0}, "replay_share"),
        ({"replay_share": -0.1}, "replay_share"),
        ({"strategy": "phased"}, "strategy"),
    ],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(InputError) as refused:
        data("one.jsonl", **settings)
    assert refused.value.where == where


def test_more_phases_than_samples_are_refused() -> None:
    with pytest.raises(InputError, match="a sample for each phase"):
        phases_of(data("a", strategy="phased", phase_by="answer_length", phases=9), [8])


def test_the_strategy_can_be_an_axis(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "sweep: s\nmodel: {path: m}\n"
        "data: {train: a.jsonl, test: b.jsonl, phase_by: answer_length, replay_share: 0.01}\n"
        "train: {batch_size: 8, learning_rate: 1.0e-3, engine: single}\nobjective: {metric: heldout_loss}\n"
        "grid: {data.strategy: [stacked, phased]}\n"
    )
    _, cells = load_space(file)
    assert sorted(cell.config.data.strategy for cell in cells) == ["phased", "stacked"]
