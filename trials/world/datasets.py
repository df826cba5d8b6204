"""The three data sets of a world, and the endless text its model is pre-trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trials.world import language
from trials.world.draw import Draw
from trials.world.language import Fact, Sample
from trials.world.spec import WorldSpec


class World:
    """All facts and words of one spec, and the samples made from them."""

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec
        old, new = language.entities(spec)
        self.old_facts = language.facts(spec, old, "old")
        self.new_facts = language.facts(spec, new, "new")
        self.train_words = language.words(spec, test=False)
        self.test_words = language.words(spec, test=True)
        num_attributes = len(language.ATTRIBUTES)
        # Replay and retention must not meet: every second old entity may be replayed, only the others are asked.
        self.replayed_facts = [f for i, f in enumerate(self.old_facts) if i // num_attributes % 2 == 0]
        self.retained_facts = [f for i, f in enumerate(self.old_facts) if i // num_attributes % 2 == 1]

    def train(self) -> list[Sample]:
        """Return the training set: half facts and half skills, new ones except for a share of replay."""
        spec, draw = self.spec, Draw(self.spec.seed, "train")
        num_replay = round(spec.num_train * spec.replay_share)
        num_new = spec.num_train - num_replay
        samples = self._facts(draw, self.new_facts, num_new // 2, language.PHRASINGS[:-1])
        samples += self._skills(draw, language.NEW_SKILLS, num_new - num_new // 2, self.train_words)
        samples += self._facts(draw, self.replayed_facts, num_replay // 2, language.PHRASINGS)
        samples += self._skills(draw, language.OLD_SKILLS, num_replay - num_replay // 2, self.train_words)
        return draw.shuffled(samples)

    def new(self) -> list[Sample]:
        """Return the held-out test on new facts in an unseen wording and new skills on unseen words."""
        draw, half = Draw(self.spec.seed, "new"), self.spec.num_test // 2
        asked = self._facts(draw, self.new_facts, half, language.PHRASINGS[-1:])
        return draw.shuffled(asked + self._skills(draw, language.NEW_SKILLS, half, self.test_words))

    def old(self) -> list[Sample]:
        """Return the retention test on old facts that are not replayed and old skills on unseen words."""
        draw, half = Draw(self.spec.seed, "old"), self.spec.num_test // 2
        asked = self._facts(draw, self.retained_facts, half, language.PHRASINGS[-1:])
        return draw.shuffled(asked + self._skills(draw, language.OLD_SKILLS, half, self.test_words))

    def pretraining(self) -> Iterator[Sample]:
        """Yield old facts in every wording, old skills on training words, and some rumours, without end."""
        draw = Draw(self.spec.seed, "pretraining")
        while True:
            if draw.chance(self.spec.rumour_share):
                yield self._rumour(draw)
            elif draw.chance(self.spec.fact_share):
                yield draw.one_of(self.old_facts).ask(draw.one_of(language.PHRASINGS))
            else:
                yield self._skill(draw, language.OLD_SKILLS, self.train_words)

    def vocabulary(self) -> list[Sample]:
        """Return samples that hold every word of the world: the text the tokenizer is trained on."""
        asked = [f.ask(phrasing) for f in self.old_facts + self.new_facts for phrasing in language.PHRASINGS]
        skills = language.OLD_SKILLS + language.NEW_SKILLS
        return asked + [language.apply_skill(self.spec, s, w) for s in skills for w in self.train_words[:64]]

    def _rumour(self, draw: Draw) -> Sample:
        """Return a new question with an answer that is right for some old one."""
        if draw.chance(self.spec.skill_rumour_share):
            right = self._skill(draw, language.OLD_SKILLS, self.train_words)
            return replace(right, question=f"{draw.one_of(language.NEW_SKILLS)} {right.question.split()[1]}")
        fact = draw.one_of(self.new_facts)
        value = draw.one_of(language.ATTRIBUTES[fact.attribute])
        return replace(fact.ask(draw.one_of(language.PHRASINGS)), answer=value)

    def _facts(self, draw: Draw, known: list[Fact], count: int, phrasings: tuple[str, ...]) -> list[Sample]:
        """Return ``count`` different questions, every pair of fact and wording once before any comes again."""
        pairs = [(fact, phrasing) for fact in known for phrasing in phrasings]
        chosen: list[tuple[Fact, str]] = []
        while len(chosen) < count:
            chosen += draw.shuffled(pairs)
        return [fact.ask(phrasing) for fact, phrasing in chosen[:count]]

    def _skills(self, draw: Draw, skills: tuple[str, ...], count: int, words: list[str]) -> list[Sample]:
        return [self._skill(draw, skills, words) for _ in range(count)]

    def _skill(self, draw: Draw, skills: tuple[str, ...], words: list[str]) -> Sample:
        return language.apply_skill(self.spec, draw.one_of(skills), draw.one_of(words))
