"""Local lm-eval tasks on the model in training score what the package's own model class scores on its saved weights."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from rank_jobs import run_sessions
from trial_cases import config, save_model, write_chats

from sweeper.core.decode import encode
from sweeper.core.errors import InputError
from sweeper.core.measurement import Measurement
from trials.prepare import prepare

needs_harness = pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the extra: pip install -e '.[eval]'")
TASKS: dict[str, dict[str, Any]] = {
    "picks": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}} is",
        "doc_to_choice": ["one", "two dogs", "red"],
        "doc_to_target": "{{a}}",
        "num_fewshot": 1,
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "writes": {
        "output_type": "generate_until",
        "doc_to_text": "<U>{{q}}<E><A>",
        "doc_to_target": "the answer is one of the two cats, blue and red",
        "generation_kwargs": {"until": ["wer", "\n"], "max_gen_toks": 20, "do_sample": False},
        "metric_list": [{"metric": "chrf"}],
    },
    "reads": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{q}} " * 60,
        "metric_list": [{"metric": "bits_per_byte"}],
    },
}
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    records = [{"q": "the cat " * (1 + n % 3) + "?" * n, "a": n % 3} for n in range(9)]
    (tasks / "docs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    files = {"test": str(tasks / "docs.jsonl")}
    for name, task in TASKS.items():
        common = {"task": name, "dataset_path": "json", "dataset_kwargs": {"data_files": files}, "test_split": "test"}
        (tasks / f"{name}.yaml").write_text(yaml.safe_dump(common | task))
    return tmp_path


def trial(folder: Path, **settings: Any) -> Any:
    model = folder / "model"
    if not model.exists():
        save_model(model)
    chats = write_chats(folder / "train.jsonl", 16)
    tasks = {"final_metrics": ["lm_eval"], "lm_eval_tasks": list(TASKS), "lm_eval_path": str(folder / "tasks")}
    learned = {"epochs": 20, "learning_rate": 1e-2, "milestones": 1}
    return config(model, chats, **(learned | tasks | settings))


@needs_harness
def test_every_kind_of_task_scores_as_the_package_s_own_model(folder: Path) -> None:
    ((_, measurements),) = run_sessions(0, 1, "", [encode(trial(folder))], str(folder / "trained"))
    found = Measurement.from_json(measurements[-1]).scores
    wanted = scores_of(folder / "trained", folder / "tasks")
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-4)
    assert set(wanted) >= {"lm_eval/picks/acc", "lm_eval/picks/acc_norm", "lm_eval/writes/chrf"}
    assert found["lm_eval/picks"] == found["lm_eval/picks/acc"]
    assert found["lm_eval/writes/chrf"] > 5, "it must write words by now, or equal answers say nothing"
    firsts = [found["lm_eval/picks/acc"], found["lm_eval/writes/chrf"], found["lm_eval/reads/bits_per_byte"]]
    assert found["lm_eval"] == pytest.approx(sum(firsts) / 3)


def scores_of(model: Path, tasks: Path) -> dict[str, float]:
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    own = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=4)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    loaded = manager.load(list(TASKS))
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(seed=1234)
    found = evaluate(lm=own, task_dict=loaded, bootstrap_iters=0, log_samples=False)["results"]
    return {
        f"lm_eval/{task}/{key.removesuffix(',none')}": value
        for task, scores in found.items()
        for key, value in scores.items()
        if key.endswith(",none") and "stderr" not in key
    }


@needs_harness
def test_tasks_that_cannot_be_measured_are_refused_before_training(folder: Path) -> None:
    from trials.session import TrialSession

    session = TrialSession(rank=0, world_size=1, device="cpu")
    session.connect("")
    try:
        with pytest.raises(InputError, match=r"eval.lm_eval_tasks: there is no such task of lm-eval, got 'wrong'"):
            session.start(trial(folder, lm_eval_tasks=["wrong"]))
        with pytest.raises(InputError, match=r"eval.lm_eval_path: there is no such folder"):
            session.start(trial(folder, lm_eval_path=str(folder / "nowhere")))
        (folder / "tasks" / "docs.jsonl").unlink()
        with pytest.raises(InputError, match=r"task of lm-eval cannot be loaded"):
            session.start(trial(folder, lm_eval_tasks=["writes"]))
    finally:
        session.close()


def test_without_the_package_prepare_says_how_to_install_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"lm-eval is not installed .pip install 'sweeper\[eval\]'."):
        prepare(trial(folder))
