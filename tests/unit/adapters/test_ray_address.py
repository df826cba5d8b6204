"""Addresses that a sweep is not driven over, and folders that would not outlive it, are refused at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.adapters.ray.address import refuse_passing_folder
from sweeper.adapters.ray.cluster import cluster
from sweeper.core.errors import InputError


@pytest.mark.parametrize(("address", "variable"), [("ray://head:10001", ""), ("auto", "ray://head:10001")])
def test_ray_client_is_refused_before_anything_is_asked_for(
    address: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    with pytest.raises(InputError, match=r"over Ray Client, got 'ray://head:10001' .*ray job submit"):
        cluster(address)


@pytest.mark.parametrize("address", [None, "auto", "head:6379"])
def test_any_other_address_is_taken(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    cluster(address)


def test_a_sweep_does_not_lie_where_ray_deletes_what_a_job_shipped() -> None:
    refuse_passing_folder(Path("/shared/sweeps/mine"))
    with pytest.raises(InputError, match=r"SWEEPER_HOME: Ray deletes this folder"):
        refuse_passing_folder(Path("/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1/sweeps/mine"))
