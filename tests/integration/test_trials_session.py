"""A session runs trials one after another, and each of them as if it were alone."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from rank_jobs import ENDS, decode_each, run_sessions
from rank_processes import in_gang
from trial_cases import chat, config, save_model, write_chats

from sweeper.core.config import ModelConfig, TrialConfig
from sweeper.core.decode import encode
from sweeper.core.errors import InputError, LifecycleError
from sweeper.core.measurement import Measurement
from sweeper.core.milestones import Milestones
from trials.engines.single import SingleEngine
from trials.gang import Gang
from trials.generate import greedy
from trials.model import load_model
from trials.session import TrialSession


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("session") / "model")


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("chats")
    return {name: write_chats(folder / f"{name}.jsonl", 30, seed=seed) for seed, name in enumerate("abc")}


@pytest.fixture
def session() -> Any:
    one = TrialSession(rank=0, world_size=1, device="cpu")
    one.connect("")
    yield one
    one.close()


def trial(model: Path, chats: dict[str, Path], **settings: Any) -> TrialConfig:
    tests = {"b": chats["b"], "c": chats["c"]}
    return config(
        model, chats["a"], tests, **({"milestones": 3, "metrics": ["heldout_loss", "exact_match"]} | settings)
    )


def finish(session: TrialSession) -> list[Measurement]:
    measurements = []
    while not session.is_over:
        measurement = session.advance()
        assert measurement is not None
        measurements.append(measurement)
    return measurements


def losses(measurements: list[Measurement]) -> list[float]:
    return [point.loss for one in measurements for point in one.series]


def test_a_measurement_is_taken_at_the_first_step_past_each_milestone(session, model, chats) -> None:
    session.start(trial(model, chats, batch_size=8, epochs=2), Milestones((10, 16, 50, 60)))
    found = finish(session)
    assert [one.samples_seen for one in found] == [16, 56, 64]
    assert [one.milestone for one in found] == [2, 3, 4]
    assert [one.is_last for one in found] == [False, False, True]
    assert [len(one.series) for one in found] == [2, 5, 1]
    assert [point.samples_seen for one in found for point in one.series] == list(range(8, 72, 8))
    with pytest.raises(LifecycleError):
        session.advance()


def test_a_measurement_adds_up(session, model, chats) -> None:
    session.start(trial(model, chats, warmup_steps=2))
    first, second, third = finish(session)
    assert set(third.scores) == {f"{m}{s}" for m in ("heldout_loss", "exact_match") for s in ("", "/b", "/c")}
    assert third.scores["heldout_loss"] == pytest.approx(
        (third.scores["heldout_loss/b"] + third.scores["heldout_loss/c"]) / 2
    )
    assert second.grad_norm == pytest.approx(sum(p.grad_norm for p in second.series) / len(second.series))
    assert min(p.loss for p in second.series) <= second.train_loss <= max(p.loss for p in second.series)
    assert [point.learning_rate for point in first.series] == [5e-4, 1e-3]
    assert [one.warmup_done for one in (first, second, third)] == [False, True, True]
    assert third.train_s >= sum(p.seconds for p in third.series) > 0
    assert third.eval_s > 0
    assert third.peak_memory_bytes > 2**20
    assert Measurement.from_json(json.loads(json.dumps(third.to_json()))) == third


def test_a_second_trial_is_as_if_it_were_the_first(session, model, chats) -> None:
    session.start(trial(model, chats))
    alone = losses(finish(session))
    session.start(trial(model, chats, learning_rate=0.1))
    session.advance()
    session.start(trial(model, chats))
    assert losses(finish(session)) == alone


def test_the_exact_match_is_that_of_greedy_decoding(session, tmp_path) -> None:
    """Learned by heart, every answer is decoded; from the base model, none is."""
    model = save_model(tmp_path / "model")
    records = [chat(question, answer) for question, answer in (("a", "one"), ("b", "two"), ("c", "red"), ("d", "cat"))]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    known = config(
        model, file, {"t": file}, batch_size=4, learning_rate=1e-2, epochs=60, milestones=2, metrics=["exact_match"]
    )
    session.start(known, Milestones((4, 240)))
    first, last = finish(session)
    assert (first.scores["exact_match"], last.scores["exact_match"]) == (0.0, 1.0)
    session.save_weights(tmp_path / "trained")
    assert [decoded(tmp_path / "trained", record) for record in records] == ["one", "two", "red", "cat"]


def test_answers_are_those_that_generate_writes(session, tmp_path) -> None:
    """Half learned, some answers are right: the ones that transformers' own decoding of the saved model gets right."""
    model = save_model(tmp_path / "model")
    words = ("one", "two", "red", "cat")
    records = [chat("?" * (1 + number), f"{word} is #### {number}") for number, word in enumerate(words)]
    file = tmp_path / "train.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    known = config(
        model,
        file,
        {"t": file},
        batch_size=4,
        learning_rate=1e-2,
        epochs=40,
        milestones=4,
        metrics=["exact_match"],
        final_metrics=["answer_match"],
        final_metrics_at=[2],
        answer="after_marker",
        max_new_tokens=30,
    )
    session.start(known)
    found = finish(session)
    assert ["answer_match" in one.scores for one in found] == [False, True, False, True]
    assert all("exact_match" in one.scores for one in found)
    session.save_weights(tmp_path / "trained")
    right = [decoded(tmp_path / "trained", record, 30).endswith(f"#### {n}") for n, record in enumerate(records)]
    assert found[-1].scores["answer_match/t"] == sum(right) / 4
    assert sum(right) > 0, "something must be learned"


def test_decoding_leaves_training_as_it_is(session, tmp_path, chats) -> None:
    """Neither the cache nor a random number stays behind: a leak between packed samples would change every loss."""
    model = save_model(tmp_path / "model", attention_dropout=0.1)
    session.start(trial(model, chats, epochs=2, metrics=["heldout_loss"]))
    plain = losses(finish(session))
    session.start(trial(model, chats, epochs=2, metrics=["heldout_loss", "answer_match"], max_new_tokens=5))
    assert losses(finish(session)) == plain


def test_a_set_without_final_answers_is_refused_before_training(session, model, chats) -> None:
    with pytest.raises(InputError, match=r"eval.answer: sample 0 of test set b has no final answer by this rule"):
        session.start(trial(model, chats, metrics=["answer_match"], answer="after_marker"))


@pytest.mark.slow
def test_ranks_share_the_prompts_of_a_sharded_model(model) -> None:
    """Seven prompts in waves on two ranks, of very different length: no rank waits, and each answer is that of one."""
    import torch

    draw = np.random.default_rng(0)
    prompts = [draw.integers(4, 90, length).tolist() for length in (3, 40, 7, 7, 25, 1, 12)]
    exact, half = in_gang(2, decode_each, str(model), prompts, ["fp32", "bf16"])
    gang = Gang(rank=0, world_size=1, device=torch.device("cpu"))
    engine = SingleEngine(load_model(model, ModelConfig(path=str(model))), gang, "fp32")
    alone = greedy(engine, [np.array(p) for p in prompts], max_new_tokens=9, ends=ENDS, max_tokens=60, gang=gang)
    assert exact == [alone[number] for number in range(len(prompts))]
    assert len({len(answer) for answer in exact}) > 1
    assert len(half) == len(prompts)


def decoded(folder: Path, record: dict[str, Any], max_new_tokens: int = 8) -> str:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt = words.apply_chat_template(record["messages"][:1], add_generation_prompt=True, return_tensors="pt")
    output = model.generate(**prompt, max_new_tokens=max_new_tokens, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    return str(words.decode(output, skip_special_tokens=True))


def test_an_exploding_trial_reports_its_numbers_and_goes_on(session, model, chats) -> None:
    session.start(trial(model, chats, learning_rate=1e30, clip_norm=0, epochs=2))
    found = finish(session)
    assert found[-1].is_last
    assert not math.isfinite(found[-1].train_loss)
    assert not math.isfinite(found[-1].scores["heldout_loss"])
    assert found[-1].scores["exact_match"] == 0.0
    session.start(trial(model, chats))
    assert all(math.isfinite(loss) for loss in losses(finish(session)))


def test_a_gang_of_another_size_is_refused(session, model, chats) -> None:
    with pytest.raises(InputError, match=r"train.ranks: this gang has 1 ranks, got 2"):
        session.start(trial(model, chats, engine="fsdp", ranks=2))


def test_a_sample_beyond_the_micro_batch_is_refused(session, model, chats) -> None:
    with pytest.raises(InputError, match=r"train.max_tokens_per_rank: must hold the longest sample's"):
        session.start(trial(model, chats, max_tokens_per_rank=10))


@pytest.mark.slow
def test_two_ranks_run_trials_like_one(session, model, chats, tmp_path) -> None:
    """Warm starts, scores, saved weights, and an explosion between two trials that leaves no trace."""
    calm = trial(model, chats, engine="fsdp", ranks=2, precision="fp32")
    wild = trial(model, chats, engine="fsdp", ranks=2, learning_rate=1e30, clip_norm=0)
    folder = tmp_path / "trained"
    cold, exploded, warm = in_gang(2, run_sessions, [encode(one) for one in (calm, wild, calm)], str(folder))
    assert exploded[1][-1]["train_loss"] in ("NaN", "Infinity")
    found = [Measurement.from_json(plain) for plain in warm[1]]
    assert losses(found) == losses([Measurement.from_json(plain) for plain in cold[1]])
    session.start(trial(model, chats))
    alone = finish(session)
    assert losses(found) == pytest.approx(losses(alone), rel=1e-5)
    assert found[-1].scores == pytest.approx(alone[-1].scores, rel=1e-4)
    assert agrees_with_saved(folder, chats["b"]) == pytest.approx(found[-1].scores["heldout_loss/b"], rel=1e-5)


def agrees_with_saved(folder: Path, file: Path) -> float:
    """Return the held-out loss that the saved folder gives, one sample at a time through transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    total, count = 0.0, 0
    for line in file.read_text().splitlines():
        one = words.apply_chat_template(
            json.loads(line)["messages"], return_dict=True, return_assistant_tokens_mask=True, return_tensors="pt"
        )
        mask = torch.as_tensor(one["assistant_masks"]).reshape(-1)[1:].bool()
        with torch.no_grad():
            logits = model(input_ids=one["input_ids"]).logits[0, :-1][mask]
        total += torch.nn.functional.cross_entropy(logits, one["input_ids"][0, 1:][mask], reduction="sum").item()
        count += int(mask.sum())
    return total / count
