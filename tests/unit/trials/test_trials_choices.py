"""Multiple choice: what is read, and that the choice picked is the likeliest by the model's own logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trial_cases import MARKED, PLAIN, config, tokenizer, write_chats

from sweeper.core.config import ModelConfig
from sweeper.core.errors import InputError
from sweeper.core.evaluation import EvalConfig
from trials.choices import read_questions, read_sets
from trials.engines.single import SingleEngine
from trials.gang import Gang
from trials.model import load_model
from trials.multiple_choice import ChoiceTest
from trials.prepare import prepare

GANG = Gang(rank=0, world_size=1, device=torch.device("cpu"))


def lettered(question: str, answer: str, subject: str = "maths", **more: Any) -> dict[str, Any]:
    content = f"{question}\nA. one\nB. two\nC. red\nD. blue"
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "subject": subject, "answer": answer} | more


def spelt(question: str, choices: list[str], answer: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}], "choices": choices, "answer": answer}


def write(file: Path, records: list[Any]) -> str:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def test_letters_are_found_in_the_question_and_choices_as_given(tmp_path: Path) -> None:
    records = [
        lettered("E. coli\nA. and B. are rods:\nE. not", "B"),
        spelt("which?", ["a cat", "the dog"], 1),
        spelt("which?", ["a cat", "the dog"], "a cat"),
        spelt("which?", ["a cat", "the dog"], "B"),
    ]
    found = read_questions(write(tmp_path / "q.jsonl", records))
    assert [one.choices for one in found] == [("A", "B", "C", "D"), *[("a cat", "the dog")] * 3]
    assert [one.right for one in found] == [1, 1, 0, 1]
    assert [one.subject for one in found] == ["maths", "all", "all", "all"]
    assert [one.asked[-1]["role"] for one in found] == ["user"] * 4


def test_solved_questions_of_the_same_subject_come_first(tmp_path: Path) -> None:
    asked = write(tmp_path / "test.jsonl", [lettered("t1", "A", "law"), lettered("t2", "B")])
    solved = write(tmp_path / "dev.jsonl", [lettered(f"d{n}", "C", s) for n in range(3) for s in ("maths", "law")])
    settings = EvalConfig(
        metrics=("multiple_choice",), multiple_choice={"m": asked}, few_shot=2, few_shot_from={"m": solved}
    )
    law, maths = read_sets(settings)["m"]
    assert [message["content"][:2] for message in law.asked] == ["d0", "C", "d1", "C", "t1"]
    assert [message["content"][:2] for message in maths.asked] == ["d0", "C", "d1", "C", "t2"]
    write(tmp_path / "dev.jsonl", [lettered("d", "C", "law")] * 2)
    with pytest.raises(InputError, match=r"eval.few_shot_from.m: needs 2 solved questions of subject 'maths', got 0"):
        read_sets(settings)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"answer": "A"}, "must be an object with 'messages'"),
        (lettered("q", "E"), "'answer' must name one of the choices, got 'E'"),
        (spelt("q", ["one"], 0), "needs at least two different choices"),
        (spelt("q", ["one", "one"], 0), "needs at least two different choices"),
        (spelt("q", ["one", "two"], 2), "'answer' must name one of the choices, got 2"),
        (spelt("q", ["one", "two"], True), "'answer' must name one of the choices"),
        ({"messages": [{"role": "user", "content": "no letters"}], "answer": "A"}, "needs at least two different"),
        (lettered("q", "A", "a/b"), "'subject' must be letters"),
    ],
)
def test_what_is_no_question_is_refused_with_its_line(tmp_path: Path, record: Any, message: str) -> None:
    file = write(tmp_path / "q.jsonl", [lettered("fine", "A"), record])
    with pytest.raises(InputError, match=message) as refused:
        read_questions(file)
    assert str(refused.value).startswith(f"{file}:2: ")


@pytest.mark.parametrize("template", [MARKED, PLAIN])
@pytest.mark.parametrize("score", ["sum", "mean"])
def test_the_choice_picked_is_the_likeliest(tmp_path: Path, model_path: Path, template: str, score: Any) -> None:
    """Against the model one choice at a time; one-token choices share a row, others do not, and some are prefixes."""
    draw = np.random.default_rng(0)
    texts = ["a cat", "the dog is red", "a ca", "blue", "x", "y", "of the answer"]
    records = [lettered("?" * n, "ABCD"[n % 4], "law" if n % 3 else "maths") for n in range(1, 9)]
    records += [spelt("!" * n, [texts[i] for i in draw.permutation(len(texts))[: 2 + n % 3]], 0) for n in range(1, 9)]
    sets = {"m": write(tmp_path / "m.jsonl", records)}
    settings = EvalConfig(metrics=("multiple_choice",), multiple_choice=sets, choice_score=score)
    words = tokenizer(template)
    model = load_model(model_path, ModelConfig(path=str(model_path)))
    likelihoods = [
        [alone(model, words, one.asked, text, score) for text in one.choices] for one in read_sets(settings)["m"]
    ]
    right = [
        int(np.argmax(found)) == one.right for found, one in zip(likelihoods, read_sets(settings)["m"], strict=True)
    ]
    engine = SingleEngine(model, GANG, "fp32")
    test = ChoiceTest(read_sets(settings), settings, words, max_tokens=200, layout="packed", gang=GANG)
    assert len(test._rows.tokens) < sum(map(len, likelihoods)), "letters share a row"
    scores = test.scores(engine)
    subjects = [one.subject for one in read_sets(settings)["m"]]
    wanted = {
        s: np.mean([r for r, own in zip(right, subjects, strict=True) if own == s]) for s in ("law", "maths", "all")
    }
    assert scores == pytest.approx(
        {f"multiple_choice/m/{s}": share for s, share in wanted.items()}
        | dict.fromkeys(("multiple_choice/m", "multiple_choice"), np.mean(list(wanted.values())))
    )
    assert len(set(wanted.values())) > 1
    losses = likelihoods_of(test, engine)
    flat = [one for found in likelihoods for one in found]
    assert losses == pytest.approx(flat, abs=1e-4)


def likelihoods_of(test: Any, engine: Any) -> Any:
    from trials.evaluate import sample_sums

    losses, _ = sample_sums(engine, test._batches, len(test._rows.lengths), GANG)
    return -losses / test._rows.lengths if test._mean else -losses


def alone(model: Any, words: Any, asked: list[Any], choice: str, score: str) -> float:
    prompt = words.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    before, own = words.encode(prompt), words.encode(choice)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([before + own]), use_cache=False).logits[0].log_softmax(-1)
    found = [logits[len(before) - 1 + i, token].item() for i, token in enumerate(own)]
    return float(np.sum(found) if score == "sum" else np.mean(found))


def test_a_bad_set_is_refused_by_prepare(tmp_path: Path, model_path: Path) -> None:
    train = write_chats(tmp_path / "train.jsonl", 4)
    bad = write(tmp_path / "q.jsonl", [spelt("q", ["one"], 0)])
    one = config(model_path, train, final_metrics=["multiple_choice"], multiple_choice={"m": bad})
    with pytest.raises(InputError, match="needs at least two different choices"):
        prepare(one)


def test_an_answer_that_the_rule_does_not_find_is_refused_by_prepare(tmp_path: Path, model_path: Path) -> None:
    chats = write_chats(tmp_path / "chats.jsonl", 4)
    one = config(model_path, chats, {"t": chats}, final_metrics=["answer_match"], answer="last_number")
    with pytest.raises(InputError, match=r"eval.answer: sample 0 of test set t has no final answer by this rule"):
        prepare(one)


def test_other_questions_are_other_data(tmp_path: Path, model_path: Path) -> None:
    train = write_chats(tmp_path / "train.jsonl", 4)
    file = write(tmp_path / "q.jsonl", [lettered("q", "A")])
    one = config(model_path, train, final_metrics=["multiple_choice"], multiple_choice={"m": file})
    before = prepare(one)["data_sha256"]
    write(tmp_path / "q.jsonl", [lettered("q", "B")])
    assert prepare(one)["data_sha256"] != before
