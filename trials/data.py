"""Tokenised data, made once per (contents, tokenizer, template, length rule) and memory-mapped ever after.

All ranks and trials of a node share the files; whoever comes first makes them, the others wait.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from sweeper.core.config import DataConfig, OverLong
from sweeper.core.decode import decode
from sweeper.core.errors import InputError
from sweeper.core.layout import cache_root
from trials.chats import read_chats
from trials.source import local_path, tokenizer_files
from trials.world.cache import made_once

T = TypeVar("T")

CACHE_FORMAT: Final = 1
"""Raised by hand when the code makes other tokens or files from the same input."""
_ARRAYS: Final = ("tokens", "loss_mask", "offsets", "loss_counts")
"""What a set is stored as, a file each."""
_CHUNK: Final = 512
"""Chats rendered and encoded at a time; the tokenizer's threads have no more to gain beyond it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """What tokenising one set found."""

    samples: int
    tokens: int
    loss_tokens: int
    longest_tokens: int
    truncated: int
    dropped: int
    """Over-long samples left out, and truncated ones in which no answer was left."""
    sha256: str
    """Of the set's contents: file bytes, or the fingerprint of a named data set."""


@dataclass(frozen=True, slots=True)
class TokenSet:
    """Samples one after another. Sample i is ``tokens[offsets[i]:offsets[i + 1]]``, at least two tokens long."""

    tokens: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]
    """Tokens to be predicted; never the first of a sample."""
    offsets: NDArray[np.int64]
    loss_counts: NDArray[np.int32]
    """Loss tokens of each sample."""
    files: tuple[int, ...] = ()
    """Samples of each file that was joined; empty means that all are of one."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sample."""
        return np.diff(self.offsets)

    @property
    def file_samples(self) -> tuple[int, ...]:
        """Samples of each file, in order."""
        return self.files or (len(self),)

    def head(self, count: int | None) -> TokenSet:
        """Return the first ``count`` samples, all where it is None."""
        if count is None or count >= len(self):
            return self
        end = self.offsets[count]
        return TokenSet(self.tokens[:end], self.loss_mask[:end], self.offsets[: count + 1], self.loss_counts[:count])


def join(sets: Sequence[TokenSet]) -> TokenSet:
    """Return the sets one after another; a lone one stays memory-mapped."""
    if len(sets) == 1:
        return sets[0]
    starts = np.cumsum([0, *(len(one.tokens) for one in sets)])
    offsets = [np.zeros(1, dtype=np.int64)]
    offsets += [one.offsets[1:] + start for one, start in zip(sets, starts[:-1], strict=True)]
    return TokenSet(
        np.concatenate([one.tokens for one in sets]),
        np.concatenate([one.loss_mask for one in sets]),
        np.concatenate(offsets),
        np.concatenate([one.loss_counts for one in sets]),
        tuple(len(one) for one in sets),
    )


class DataStore:
    """Tokenised sets for one tokenizer and length rule."""

    def __init__(
        self, tokenizer_folder: Path, chat_template: str | None, data: DataConfig, load: Callable[[], Any]
    ) -> None:
        """Prepare to tokenise; ``load`` returns the tokenizer and is called only if something is not cached yet."""
        self._load = load
        self._max_length = data.max_length
        self._over_long: OverLong = data.over_long
        self._rule = [CACHE_FORMAT, _tokenizer_key(tokenizer_folder, chat_template), data.max_length, data.over_long]

    def facts(self, path: str, *, split: str) -> DataFacts:
        """Return what tokenising ``path`` found.

        Raises:
            InputError: the data is missing, holds a line that is not a chat, or a sample that is too long.
        """
        return decode(DataFacts, json.loads((self._folder(path, split) / "facts.json").read_text()))

    def tokens(self, path: str, *, split: str) -> TokenSet:
        """Return the tokenised samples, memory-mapped; raises as ``facts`` does."""
        folder = self._folder(path, split)
        return TokenSet(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS))

    def _folder(self, path: str, split: str) -> Path:
        digest = _content_digest(path, split)
        # The suffix says how the bytes are read.
        key = hashlib.sha256(json.dumps([*self._rule, digest, Path(path).suffix]).encode()).hexdigest()[:20]
        return made_once(cache_root() / "tokens" / key, lambda folder: self._make(folder, path, split, digest))

    def _make(self, folder: Path, path: str, split: str, digest: str) -> None:
        collected = _Collector(self._max_length, self._over_long)
        tokenizer = self._load()
        from trials.template import tokenise

        for chats in _chunks(read_chats(path, split=split), _CHUNK):
            for (where, _), sample in zip(chats, tokenise(tokenizer, chats), strict=True):
                collected.add(sample.tokens, sample.loss_mask, where)
        tokens = collected.finish(path)
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(tokens, name))
        facts = DataFacts(
            samples=len(tokens),
            tokens=len(tokens.tokens),
            loss_tokens=int(tokens.loss_counts.sum()),
            longest_tokens=int(tokens.lengths.max()),
            truncated=collected.truncated,
            dropped=collected.dropped,
            sha256=digest,
        )
        (folder / "facts.json").write_text(json.dumps(asdict(facts)))


class _Collector:
    """Gathers samples and applies the rule for over-long ones."""

    def __init__(self, max_length: int, over_long: OverLong) -> None:
        self._max_length = max_length
        self._over_long = over_long
        self._tokens: list[NDArray[np.int32]] = []
        self._masks: list[NDArray[np.bool_]] = []
        self.truncated = 0
        self.dropped = 0

    def add(self, tokens: NDArray[np.int32], loss_mask: NDArray[np.bool_], where: str) -> None:
        if len(tokens) > self._max_length:
            if self._over_long == "refuse":
                raise InputError(
                    f"sample has more than data.max_length = {self._max_length} tokens",
                    where=where,
                    got=len(tokens),
                    mend="raise data.max_length, or set data.over_long to truncate or drop",
                )
            tokens, loss_mask = tokens[: self._max_length], loss_mask[: self._max_length]
            if self._over_long == "drop" or not loss_mask.any():
                self.dropped += 1
                return
            self.truncated += 1
        self._tokens.append(tokens)
        self._masks.append(loss_mask)

    def finish(self, path: str) -> TokenSet:
        if not self._tokens:
            raise InputError("no sample is left", where=path, got=f"{self.dropped} over-long samples dropped")
        return TokenSet(
            np.concatenate(self._tokens),
            np.concatenate(self._masks),
            np.cumsum([0, *map(len, self._tokens)], dtype=np.int64),
            np.array([mask.sum() for mask in self._masks], dtype=np.int32),
        )


_digests: dict[tuple[str, int, int], str] = {}


def _content_digest(path: str, split: str) -> str:
    """Return the SHA-256 of a file's bytes, or the fingerprint that ``datasets`` gives a named set."""
    found = local_path(path)
    if found is None or found.is_dir():
        from trials.chats import named_set

        return f"{named_set(path, split=split)._fingerprint}"
    status = found.stat()
    # A file that is the same object, size and time is not read again for the next trial.
    key = (str(found.resolve()), status.st_size, status.st_mtime_ns)
    if key not in _digests:
        with found.open("rb") as stream:
            _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]


def _tokenizer_key(folder: Path, chat_template: str | None) -> str:
    digest = hashlib.sha256()
    for file in tokenizer_files(folder):
        digest.update(os.fsencode(file.name) + b"\0" + file.read_bytes() + b"\0")
    if chat_template is not None:
        digest.update(b"chat_template\0" + Path(chat_template).read_bytes())
    return digest.hexdigest()


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
