"""What can be asked in a world: facts about made-up entities, and skills on short words of capital letters."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import Any, Final

from trials.world.draw import Draw
from trials.world.spec import WorldSpec

ATTRIBUTES: Final = {
    "colour": ("red", "blue", "green", "black", "white", "amber", "violet", "grey"),
    "home": ("valley", "island", "harbour", "forest", "desert", "castle", "village", "mountain"),
    "craft": ("baker", "weaver", "miner", "sailor", "painter", "doctor", "farmer", "singer"),
}
PHRASINGS: Final = (
    "what is the {attribute} of {entity}?",
    "which {attribute} has {entity}?",
    "tell me the {attribute} of {entity}.",
    "say of {entity} the {attribute}!",
)
"""The last one is kept for the tests: new facts are never trained on in it, old facts were."""

_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


SKILLS: Final[dict[str, tuple[tuple[int, ...], int]]] = {
    "copy": ((0, 1, 2), 0),
    "reverse": ((2, 1, 0), 0),
    "left": ((1, 2, 0), 0),
    "next": ((0, 1, 2), 1),
    "previous": ((0, 1, 2), -1),
    "flip": ((2, 1, 0), 0),
    "turn": ((1, 2, 0), 0),
    "mirror": ((2, 1, 0), 1),
    "retreat": ((1, 2, 0), -1),
}
"""By name: from which places the letters are taken, and how far each moves along the alphabet (a circle)."""
OLD_SKILLS: Final = ("copy", "reverse", "left", "next", "previous")
NEW_SKILLS: Final = ("flip", "turn", "mirror", "retreat")
"""Two other names for old skills, and two that do two old things at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """One question with its one right answer."""

    question: str
    answer: str

    def to_json(self) -> dict[str, Any]:
        """Return the chat form: ``messages`` of a user and an assistant, and ``answer`` for exact match."""
        messages = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        return {"messages": messages, "answer": self.answer}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    entity: str
    attribute: str
    value: str

    def ask(self, phrasing: str) -> Sample:
        """Return the question for this fact in one wording."""
        return Sample(question=phrasing.format(attribute=self.attribute, entity=self.entity), answer=self.value)


def letters_of(spec: WorldSpec) -> str:
    return _ALPHABET[: spec.num_letters]


def apply_skill(spec: WorldSpec, skill: str, word: str) -> Sample:
    """Return the question to use a skill on one word."""
    places, shift = SKILLS[skill]
    letters = letters_of(spec)
    answer = "".join(letters[(letters.index(word[place]) + shift) % len(letters)] for place in places)
    return Sample(question=f"{skill} {word}", answer=answer)


def entities(spec: WorldSpec) -> tuple[list[str], list[str]]:
    """Return the names of the old and the new entities, all different."""
    syllables = [a + b for a, b in itertools.product("bdgklmnprstvz", "aeiou")]
    names = [first + second + end for first, second, end in itertools.product(syllables, syllables, "knrx")]
    chosen = Draw(spec.seed, "entities").shuffled(names)[: spec.num_old_entities + spec.num_new_entities]
    return chosen[: spec.num_old_entities], chosen[spec.num_old_entities :]


def facts(spec: WorldSpec, names: list[str], purpose: str) -> list[Fact]:
    """Return one fact per name and attribute, its value drawn at random."""
    clans = _clans(spec)
    draw = Draw(spec.seed, f"facts/{purpose}")
    members = [(name, draw.one_of(clans)) for name in names]
    return [Fact(entity=name, attribute=a, value=value) for name, clan in members for a, value in clan.items()]


def _clans(spec: WorldSpec) -> list[dict[str, str]]:
    """Return the clans: every entity belongs to one, and shares its attributes."""
    columns = [Draw(spec.seed, f"clans/{name}").shuffled(values) for name, values in ATTRIBUTES.items()]
    return [dict(zip(ATTRIBUTES, row, strict=True)) for row in zip(*columns, strict=True)]


def is_test_word(word: str) -> bool:
    """Tell whether a word is kept for the tests: one in eight, by hash, the same for every skill."""
    return hashlib.sha256(word.encode()).digest()[0] % 8 == 0


def words(spec: WorldSpec, *, test: bool) -> list[str]:
    """Return all words of the world on one side of the split between training and tests."""
    every = ("".join(letters) for letters in itertools.product(letters_of(spec), repeat=3))
    return [word for word in every if is_test_word(word) is test]
