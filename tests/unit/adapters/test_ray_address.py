"""Addresses: which mean Ray Client, which are refused; and folders that would not outlive a sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.adapters.ray.address import client_address, host_and_port, refuse_passing_folder
from sweeper.adapters.ray.cluster import cluster
from sweeper.core.errors import InputError


@pytest.mark.parametrize(("address", "variable"), [("ray://head:10001", ""), ("auto", "ray://head:10001")])
def test_ray_client_is_meant_also_where_auto_stands_for_it(
    address: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert client_address(address) == "ray://head:10001"
    with pytest.raises(InputError, match=r"only the command line .*--address ray://head:10001"):
        cluster(address)


@pytest.mark.parametrize("address", [None, "auto", "head:6379"])
def test_any_other_address_is_of_a_cluster_that_this_process_drives_on(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert client_address(address) is None
    cluster(address)


def test_a_variable_that_nobody_asked_for_sends_no_sweep_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert client_address(None) is None


@pytest.mark.parametrize("address", ["http://head:8265", "https://head:8265"])
def test_the_address_of_the_job_server_is_refused_with_the_way_to_use_it(address: str) -> None:
    with pytest.raises(InputError, match=rf"--address: is the address of Ray's job server.*--address {address}"):
        client_address(address)


@pytest.mark.parametrize(
    "address",
    ["ray://", "ray://head", "ray://:10001", "ray://head:port", "ray://head:99999", "ray://me:pw@head:1", "x://h:1"],
)
def test_an_address_without_host_or_port_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"--address: must be ray://HOST:PORT"):
        client_address(address)


@pytest.mark.parametrize(
    ("address", "parts"),
    [("ray://head:10001", ("head", 10001)), ("ray://10.0.0.1:9", ("10.0.0.1", 9)), ("ray://[::1]:9", ("::1", 9))],
)
def test_host_and_port_are_read(address: str, parts: tuple[str, int]) -> None:
    assert host_and_port(address) == parts


def test_a_sweep_does_not_lie_where_ray_deletes_what_a_job_shipped() -> None:
    refuse_passing_folder(Path("/shared/sweeps/mine"))
    with pytest.raises(InputError, match=r"SWEEPER_HOME: Ray deletes this folder"):
        refuse_passing_folder(Path("/tmp/ray/session_1/runtime_resources/working_dir_files/_ray_pkg_1/sweeps/mine"))
