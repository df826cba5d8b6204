"""The text of a world: what is asked, what is right, and what is kept from training."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable

import pytest

from trials.world.datasets import World
from trials.world.draw import Draw
from trials.world.language import NEW_SKILLS, OLD_SKILLS, PHRASINGS, Sample, apply_skill, entities
from trials.world.spec import QUICKSTART

GOLDEN_DATA = "5ee10b4620513486"
SKILLS = (*OLD_SKILLS, *NEW_SKILLS)


@pytest.fixture(scope="module")
def world() -> World:
    return World(QUICKSTART)


def is_skill(sample: Sample) -> bool:
    return sample.question.split()[0] in SKILLS


@pytest.mark.parametrize(
    ("skill", "answer"),
    [
        ("copy", "ABJ"),
        ("reverse", "JBA"),
        ("left", "BJA"),
        ("next", "BCA"),
        ("previous", "JAI"),
        ("flip", "JBA"),
        ("turn", "BJA"),
        ("mirror", "ACB"),
        ("retreat", "AIJ"),
    ],
)
def test_a_skill_has_one_right_answer(skill: str, answer: str) -> None:
    assert apply_skill(QUICKSTART, skill, "ABJ") == Sample(question=f"{skill} ABJ", answer=answer)


def test_every_skill_is_either_old_or_new() -> None:
    assert not set(OLD_SKILLS) & set(NEW_SKILLS)


def test_entities_are_all_different() -> None:
    old, new = entities(QUICKSTART)
    assert len({*old, *new}) == QUICKSTART.num_old_entities + QUICKSTART.num_new_entities


def test_a_question_has_the_same_right_answer_in_training_and_tests(world: World) -> None:
    right: dict[str, set[str]] = {}
    for sample in (*world.train(), *world.new(), *world.old()):
        right.setdefault(sample.question, set()).add(sample.answer)
    assert all(len(answers) == 1 for answers in right.values())


@pytest.mark.parametrize("test", [World.new, World.old])
def test_no_test_question_is_trained_on(world: World, test: Callable[[World], list[Sample]]) -> None:
    assert not {s.question for s in test(world)} & {s.question for s in world.train()}


@pytest.mark.parametrize("test", [World.new, World.old])
def test_no_word_of_a_test_is_seen_in_training_in_any_skill(
    world: World, test: Callable[[World], list[Sample]]
) -> None:
    trained = {s.question.split()[1] for s in world.train() if is_skill(s)}
    assert not {s.question.split()[1] for s in test(world) if is_skill(s)} & trained


def test_every_new_fact_that_is_asked_was_trained_on_in_another_wording(world: World) -> None:
    facts = {f.ask(p).question: f for f in world.new_facts for p in PHRASINGS}
    trained = {facts[s.question] for s in world.train() if s.question in facts}
    assert {facts[s.question] for s in world.new() if not is_skill(s)} <= trained


def test_old_facts_that_are_asked_are_never_replayed(world: World) -> None:
    replayed = {f.ask(p).question for f in world.replayed_facts for p in PHRASINGS}
    assert not {s.question for s in world.old()} & replayed


def test_train_and_tests_have_the_promised_sizes(world: World) -> None:
    sizes = [len(world.train()), len(world.new()), len(world.old())]
    assert sizes == [QUICKSTART.num_train, QUICKSTART.num_test, QUICKSTART.num_test]


def test_half_of_each_test_asks_skills(world: World) -> None:
    assert [sum(map(is_skill, world.new())), sum(map(is_skill, world.old()))] == [QUICKSTART.num_test // 2] * 2


def test_the_replay_share_of_the_training_set_is_old(world: World) -> None:
    new = {f.ask(p).question for f in world.new_facts for p in PHRASINGS}
    replayed = [s for s in world.train() if s.question not in new and s.question.split()[0] not in NEW_SKILLS]
    assert len(replayed) == round(QUICKSTART.num_train * QUICKSTART.replay_share)


def test_draws_of_one_purpose_do_not_depend_on_those_of_another() -> None:
    alone = Draw(0, "a")
    first = [alone.below(1000) for _ in range(5)]
    mixed, other = Draw(0, "a"), Draw(0, "b")
    assert [(mixed.below(1000), other.below(1000))[0] for _ in range(5)] == first


def test_the_data_sets_have_the_same_bytes_on_every_machine(world: World) -> None:
    """A change here is a change of the world: raise CODE_VERSION and measure the grid of the docs again."""
    text = "".join(json.dumps(s.to_json()) for s in (*world.train(), *world.new(), *world.old()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == GOLDEN_DATA


def test_the_fingerprint_changes_with_any_number_of_the_spec() -> None:
    assert dataclasses.replace(QUICKSTART, pretrain_steps=1).fingerprint() != QUICKSTART.fingerprint()
