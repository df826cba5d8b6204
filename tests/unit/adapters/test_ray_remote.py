"""A driver on the cluster: its folder, its environment, and what is made of its words and its end here."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest

from sweeper.adapters.ray.client import complaint
from sweeper.adapters.ray.follow import Following
from sweeper.adapters.ray.remote_driver import Told, driver_environment, find, release, reserve
from sweeper.core.layout import SweepFolder


class Scripted:
    """A driver that says these things, one an answer, and ends with a code."""

    def __init__(self, said: list[tuple[bytes, bytes]], code: int = 0, signals: int = 0) -> None:
        self.said = said
        self.code = code
        self.interrupts = 0
        self.at: list[tuple[int, int]] = []
        self._signals = signals

    def read(self, out_at: int, err_at: int) -> Told:
        self.at.append((out_at, err_at))
        if len(self.at) <= self._signals:
            os.kill(os.getpid(), signal.SIGINT)
        out, err = self.said.pop(0) if self.said else (b"", b"")
        return Told(out, err, None if self.said else self.code)

    def interrupt(self) -> None:
        self.interrupts += 1


def follow(driver: Scripted, at: tuple[int, int] = (0, 0)) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return Following(driver, at, out, err).to_the_end(), out.getvalue(), err.getvalue()


def test_what_the_driver_says_is_printed_where_it_belongs_and_its_code_returned() -> None:
    driver = Scripted([(b"one\n", b""), (b"two \xc3", b"oh\n"), (b"\xa4\n", b"")], code=2)
    assert follow(driver, (100, 7)) == (2, "one\ntwo ä\n", "oh\n")
    assert driver.at == [(100, 7), (104, 7), (109, 10)]


def test_each_ctrl_c_is_passed_on() -> None:
    driver = Scripted([(b"", b"")] * 4, code=3, signals=2)
    assert follow(driver)[0] == 3
    assert driver.interrupts == 2
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_third_ctrl_c_leaves_the_driver_alone() -> None:
    driver = Scripted([(b"", b"")] * 9, signals=3)
    with pytest.raises(KeyboardInterrupt):
        follow(driver)
    assert driver.interrupts == 2


def test_a_sweep_is_reserved_once_and_released_only_before_it_begins(tmp_path: Path) -> None:
    assert reserve(str(tmp_path), "grid", None) == ("grid-1", "")
    assert reserve(str(tmp_path), "grid", None) == ("grid-2", "")
    assert reserve(str(tmp_path), "grid", "mine") == ("mine", "")
    assert "exists already" in reserve(str(tmp_path), "grid", "mine")[1]
    assert "must be letters" in reserve(str(tmp_path), "grid", "../mine")[1]
    SweepFolder(tmp_path / "mine").space.write_text("")
    for name in ("grid-1", "grid-2", "mine", "none"):
        release(str(tmp_path), name)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_sweep_is_found_by_its_name_in_its_folder_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for folder in (home / "mine", tmp_path / "other"):
        folder.mkdir(parents=True)
        SweepFolder(folder).space.write_text("")
    assert find(str(home), "mine") == ("mine", "")
    assert find(str(home), None) == ("mine", "")
    assert "no such sweep" in find(str(home), "yours")[1]
    assert "must be the name of a sweep" in find(str(home), str(tmp_path / "other"))[1]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert "no such folder on the cluster's head node" in reserve(str(tmp_path / "none"), "grid", None)[1]
    assert not list(tmp_path.iterdir())


def test_a_driver_is_no_worker_of_ray_and_sees_the_gpus() -> None:
    own = {"PATH": "/bin", "RAY_JOB_ID": "1", "RAY_CLIENT_MODE": "0", "CUDA_VISIBLE_DEVICES": "", "PGHOST": "old"}
    made = driver_environment(own, {"PGHOST": "db"}, "10.0.0.1:6379")
    assert made == {"PATH": "/bin", "RAY_ADDRESS": "10.0.0.1:6379", "PYTHONUNBUFFERED": "1", "PGHOST": "db"}
    assert driver_environment({"CUDA_VISIBLE_DEVICES": "3"}, {}, "x")["CUDA_VISIBLE_DEVICES"] == "3"


@pytest.mark.parametrize(
    ("told", "overheard", "said"),
    [
        (
            "Version mismatch: The cluster was started with:\n    Ray: 2.60.0\n    Python: 3.12.1",
            "",
            "Python: 3.12.1, got",
        ),
        ("ray client connection timeout", "Invalid or missing authentication token", "RAY_AUTH_TOKEN_PATH"),
        ("ray client connection timeout", "failed to connect to all addresses", "failed to connect to all addresses"),
        ("ray client connection timeout", "", "no Ray Client server answers: ray client connection timeout"),
        ("Traceback:\n  File\nRuntimeError: Starting Ray client server failed.", "", "answers: RuntimeError: Starting"),
    ],
)
def test_each_reason_why_there_is_no_connection_is_one_line_with_a_mend(told: str, overheard: str, said: str) -> None:
    text = str(complaint("ray://head:10001", told, overheard))
    assert said in text
    assert "got 'ray://head:10001' (" in text
    assert "\n" not in text
