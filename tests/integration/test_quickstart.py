"""The main job with nothing scripted: real model, real training on FSDP gangs, and a winner that trains again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from listening import Listening

from sweeper.adapters.mlflow.store import connect, local_store
from sweeper.adapters.yaml_space import load_space
from sweeper.cli import main
from sweeper.core.layout import SweepFolder
from sweeper.core.lifecycle import TrialState
from sweeper.core.measurement import Measurement
from sweeper.spool import Spool
from sweeper.sweep import open_ledger, read_facts

PLANTED = {
    "HF_TOKEN": "hf_planted1a2b3c",
    "PGPASSWORD": "planted-pg-4d5e6f",
    "MLFLOW_TRACKING_USERNAME": "planted-user-7a8b9c",
    "MLFLOW_TRACKING_PASSWORD": "planted-mlflow-0d1e2f",
    "AWS_SECRET_ACCESS_KEY": "planted-aws-3a4b5c",
    "https_proxy": "http://proxy:planted-proxy-6d7e8f@127.0.0.1:9",
}
"""Secrets in the environment of the sweep; none may come out of it."""
SPACE = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
pytestmark = pytest.mark.slow


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "0"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@dataclass(frozen=True, kw_only=True)
class Ran:
    folder: SweepFolder
    printed: str
    listening: Listening


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run three cells of the quickstart: a good one, one that explodes, one that cannot run."""
    folder = tmp_path_factory.mktemp("quickstart")
    arguments = ["run", str(SPACE), "--plain", "--sweep", "small"]
    arguments += ["--set", "grid={batch_size: [128, 4096], learning_rate: [4e-3, 0.3]}"]
    arguments += ["--set", "train.epochs=1", "--set", "eval.milestones=4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper.cli", *arguments],
        cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "0"} | PLANTED,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with Listening(process) as listening:
        printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    return Ran(folder=SweepFolder(folder / "sweeps" / "small"), printed=printed, listening=listening)


@pytest.fixture(scope="module")
def finished(ran: Ran) -> SweepFolder:
    return ran.folder


def recorded(folder: SweepFolder, fingerprint: str) -> list[Measurement]:
    events = Spool(folder.path).read(fingerprint).events
    return [Measurement.from_json(event.body["measurement"]) for event in events if event.kind == "measured"]


def test_the_good_cell_completes_the_exploding_one_is_guarded_the_impossible_ones_are_named(
    finished: SweepFolder,
) -> None:
    cells = {cell.name: cell for cell in open_ledger(finished, load_space(finished.space)[0]).cells()}
    assert cells["b128-lr4e-3"].state is TrialState.COMPLETE
    assert cells["b128-lr0.3"].ended_by_guard
    for name in ("b4096-lr4e-3", "b4096-lr0.3"):
        assert cells[name].state is TrialState.INFEASIBLE
        assert "batch_size 4096 is larger than the training data" in cells[name].detail


def test_training_learns_and_every_step_is_on_record(finished: SweepFolder) -> None:
    best = yaml.safe_load(finished.export.read_text())
    measurements = recorded(finished, best["provenance"]["fingerprint"])
    points = [point for measurement in measurements for point in measurement.series]
    (facts,) = read_facts(finished)["facts"].values()
    steps = -(-facts["train_samples"] // 128)
    assert [point.step for point in points] == list(range(1, steps + 1))
    assert [point.samples_seen for point in points] == [128 * step for step in range(1, steps + 1)]
    assert points[-1].loss < 0.8 * points[0].loss
    assert measurements[-1].is_last
    assert measurements[-1].scores["exact_match"] > measurements[0].scores["exact_match"]


def test_the_winner_trained_again_alone_repeats_its_losses_and_is_registered(
    finished: SweepFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = command(tmp_path, "sweeper.cli", "register", str(finished.path), "--name", "arithmetic")
    assert done.returncode == 0, done.stderr
    assert "the same loss at each of" in done.stdout
    assert "registered as models:/arithmetic/1" in done.stdout
    fingerprint = yaml.safe_load(finished.export.read_text())["provenance"]["fingerprint"]
    home = finished.winners / fingerprint
    assert (home / "config.yaml").read_text() == finished.export.read_text()
    lines = (home / "measurements.jsonl").read_text().splitlines()
    again = [Measurement.from_json(json.loads(line)) for line in lines]
    first = recorded(finished, fingerprint)
    assert _sequence(again) == _sequence(first)
    assert again[-1].scores == first[-1].scores

    client = connect(local_store(finished.path))
    (version,) = client.search_model_versions("name = 'arithmetic'")
    run = client.get_run(version.run_id)
    assert run.info.run_name == "b128-lr4e-3"
    (output,) = run.outputs.model_outputs
    assert client.get_logged_model(output.model_id).artifact_location == version.source
    stored = Path(version.source.removeprefix("file://"))
    assert (stored / "model.safetensors").read_bytes() == (home / "model" / "model.safetensors").read_bytes()
    assert main(["register", str(finished.path), "--name", "arithmetic"]) == 0
    assert "is registered already: models:/arithmetic/1" in capsys.readouterr().out


def test_what_is_no_safe_model_is_not_registered(
    finished: SweepFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"a pickle")
    register = ["register", str(finished.path), "--weights", str(tmp_path)]
    assert main(register) == 2
    assert "holds no model: needs config.json and *.safetensors" in capsys.readouterr().err
    assert main([*register, "--name", "a/b"]) == 2
    assert "must have no slash or colon" in capsys.readouterr().err


def _sequence(measurements: list[Measurement]) -> list[tuple[float, float]]:
    return [(point.loss, point.grad_norm) for measurement in measurements for point in measurement.series]


def test_the_commands_that_the_readme_recommends_after_a_sweep_work(
    finished: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = finished.path.parents[1]
    status = command(home, "sweeper.cli", "status")
    assert status.returncode == 0, status.stderr
    assert "b128-lr4e-3" in status.stdout
    assert "divergence" in status.stdout
    monkeypatch.chdir(home)
    assert main(["export", "small", "--to", "yaml"]) == 0
    assert capsys.readouterr().out == finished.export.read_text()
    assert main(["export", "small", "--to", "yaml", "--out", str(tmp_path / "winner.yaml")]) == 0
    assert (tmp_path / "winner.yaml").read_text() == finished.export.read_text()
    assert main(["plan", str(finished.space), "--set", "model.trust_remote_code=true"]) == 0
    plan = " ".join(capsys.readouterr().out.split())
    assert "larger than the training data" in plan
    assert "trust_remote_code is on: code that ships with builtin:quickstart" in plan


def test_nothing_of_a_sweep_listens_beyond_the_loopback_address(ran: Ran) -> None:
    """Ray's servers, its workers, the ranks' store and their connections to each other."""
    names = {name for name, _ in ran.listening.found}
    assert {"raylet", "gcs_server"} <= names
    assert any(name.startswith("ray::Rank") for name in names)
    assert not ran.listening.beyond_loopback


def test_no_secret_of_the_environment_comes_out_of_a_sweep(ran: Ran) -> None:
    """In what it prints, its study, MLflow's record, its report, its export and everything else that it leaves."""
    home = ran.folder.path.parents[1]
    told = ran.printed.encode()
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {"study.journal", "mlflow.db", "report.html", "best.yaml"} <= {path.name for path in files}
    for path in files:
        told += path.read_bytes()
    assert b"b128-lr4e-3" in told
    for name, value in PLANTED.items():
        secret = value.partition("proxy:")[2].partition("@")[0] or value
        assert secret.encode() not in told, name


def test_bad_data_and_a_model_without_weights_stop_the_sweep_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.jsonl").write_text('{"messages": [{"role": "user", "content": "hi"}]}\n')
    (tmp_path / "empty").mkdir()
    assert main(["run", str(SPACE), "--set", "data.train=train.jsonl", "--set", "data.max_length=128"]) == 2
    assert "train.jsonl:1" in capsys.readouterr().err
    assert main(["run", str(SPACE), "--set", "model.path=empty"]) == 2
    assert "empty" in capsys.readouterr().err
    assert not (tmp_path / "sweeps").exists()


def test_every_target_gets_its_file_with_its_origin_and_none_is_written_over(
    finished: SweepFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sweeper.arguments.export import FORMATS
    from sweeper.export.targets import TARGETS

    assert set(FORMATS) == set(TARGETS)
    fingerprint = yaml.safe_load(finished.export.read_text())["provenance"]["fingerprint"]
    for target in sorted(set(TARGETS) - {"training-hub"}):
        file = tmp_path / target / "winner"
        arguments = ["export", str(finished.path), "--to", target, "--gpus", "4", "--out", str(file)]
        assert main(arguments) == 0
        head = file.with_name("winner.README") if TARGETS[target].syntax == "json" else file
        assert f"b128-lr4e-3, fingerprint {fingerprint}" in head.read_text()
        assert "one seed, standard error" in head.read_text()
        assert "MLflow run   not known" not in head.read_text()
        if target not in ("yaml", "torchrun"):
            said = [line for line in file.read_text().splitlines() if not line.startswith("#")]
            assert "builtin:quickstart/train" not in "\n".join(said), "others cannot read our paths"

        before = {path: path.read_bytes() for path in file.parent.rglob("*") if path.is_file()}
        file.unlink() if len(before) > 1 else None
        assert main(arguments) == 2, "not even a companion is written over"
        assert "the file exists already" in capsys.readouterr().err
        assert {path: path.read_bytes() for path in file.parent.rglob("*") if path.is_file()} == {
            path: text for path, text in before.items() if path != file or len(before) == 1
        }
    assert main(["export", str(finished.path), "--to", "training-hub", "--out", str(tmp_path / "none")]) == 2
    assert "training-hub's sft always falls by a cosine" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
