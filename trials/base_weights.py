"""The base weights of a model: one rank of a node reads them, and all its ranks begin their trials from the same pages.

The first rank of a node loads the model through transformers, whatever that means for its class. Each parameter is then
looked for in the folder's own files: where one holds its very bits, in fp32 or in a type that widens to them exactly,
the file's pages are the base weights, and nothing is copied. The others (merged experts, other formats, folders on a
network's file system) go to a file in memory that has no name. The rest of the model (modules, buffers, config) is
pickled behind them, so that the other ranks get the first one's very model without reading or building anything.

Engines make what they train from these weights, and again for the next trial: see ``trials.engines.live``.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sweeper.core.config import ModelConfig
from sweeper.core.errors import InputError
from trials.gang import Gang
from trials.mapped import AnonymousFile, MappedFile, Place, StoredTensors
from trials.model import load_model


class BaseWeights:
    """The files behind a model's parameters, which all ranks of the node have mapped."""

    def __init__(self, files: Sequence[MappedFile], folder: Path, gang: Gang) -> None:
        self.files = files
        """Empty where this rank's parameters are its own."""
        self._folder, self._gang = folder, gang

    def check(self) -> None:
        """Refuse to begin another trial where a file was written to since it was first read; on all ranks, or on none.

        A folder that was replaced, as a download does, is none of that: its old files stay what they are.

        Raises:
            InputError: one was.
        """
        if self._gang.any(any(file.has_changed for file in self.files)):
            raise InputError(
                "weights were written to while trials were trained from them",
                where="model.path",
                got=str(self._folder),
                mend="start the sweep again; to replace a model in use, write the new one beside it and rename",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offer:
    """Where the node's other ranks find the first one's files, as long as it has them open."""

    pid: int
    descriptors: tuple[int, ...]
    identities: tuple[tuple[int, int], ...]
    begin: int
    """Of the pickled model in the first file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Loaded:
    model: nn.Module
    files: tuple[MappedFile, ...] = ()
    offer: _Offer | None = None


def load_base(folder: Path, model: ModelConfig, gang: Gang) -> tuple[nn.Module, BaseWeights]:
    """Return the causal language model on the CPU; every rank of the gang must call it.

    Its parameters are mapped, in fp32 or what widens to it exactly, and must not be written to. Where this rank cannot
    share them there are no ``files``, and the parameters are its own, in fp32.

    Raises:
        InputError: the model cannot be loaded.
    """
    nodes = gang.gather(_node(gang.rank))
    reader = nodes.index(nodes[gang.rank])
    found: _Loaded | None = None
    failure: Exception | None = None
    if reader == gang.rank:
        try:
            found = _read(folder, model)
        except Exception as error:  # Raised again below: the others wait to hear of it.
            failure = error
    offer = gang.gather(found.offer if found else None)[reader]
    if failure is not None:
        raise failure
    if found is None:
        found = _take(offer, folder, model) if offer is not None else None
        # Where the first rank has failed, this fails as it did.
        found = found or _Loaded(model=load_model(folder, model))
    gang.any(False)  # Until now the first rank had to keep its files open.
    return found.model, BaseWeights(found.files, folder, gang)


def _node(rank: int) -> str:
    """Return what is the same in processes that can open each other's files."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {os.getuid()}"
    except OSError:
        return f"rank {rank}"


def _read(folder: Path, model: ModelConfig) -> _Loaded:
    """Load the model and put its parameters where others find them."""
    try:
        return _share(load_model(folder, model), folder)
    except InputError:
        raise
    except Exception as error:  # Whatever a model's class does not let be pickled, or the system refuses.
        _tell(error)
    # Read again: some of its weights may be given away already.
    return _Loaded(model=load_model(folder, model))


def _share(model: nn.Module, folder: Path) -> _Loaded:
    shared = [each for each in model.parameters() if each.dtype == torch.float32 and each.numel()]
    skeleton = io.BytesIO()
    _Pickler(skeleton, {id(each): number for number, each in enumerate(shared)}).dump(model)
    stored = StoredTensors(folder)
    anonymous = AnonymousFile("base-weights")
    places = []
    for each in shared:
        place = stored.find(each.data)
        if place is not None:
            places.append(Place(file=place.file + 1, offset=place.offset, dtype=place.dtype, shape=place.shape))
        else:
            places.append(anonymous.add(each.data))
        each.data = torch.empty(0)  # Freed as it goes: never twice in memory.
    begin = anonymous.stream.tell()
    pickle.dump([(place, each.requires_grad) for place, each in zip(places, shared, strict=True)], anonymous.stream)
    anonymous.stream.write(skeleton.getbuffer())
    files = (anonymous.mapped(), *stored.files)
    for place, each in zip(places, shared, strict=True):
        each.data = files[place.file].tensor(place)
    offer = _Offer(
        pid=os.getpid(),
        descriptors=tuple(file.descriptor for file in files),
        identities=tuple(file.identity for file in files),
        begin=begin,
    )
    return _Loaded(model=model, files=files, offer=offer)


def _take(offer: _Offer, folder: Path, model: ModelConfig) -> _Loaded | None:
    """Return the first rank's model on its pages; None where this process may not open them."""
    try:
        files = tuple(_opened(offer.pid, descriptor) for descriptor in offer.descriptors)
        if tuple(file.identity for file in files) != offer.identities:
            raise OSError("not the files that were offered")
        if model.trust_remote_code:
            _import_classes(folder)
        stream = io.BytesIO(files[0].pages[offer.begin :])
        parameters = [
            nn.Parameter(files[place.file].tensor(place), requires_grad=is_trained)
            for place, is_trained in pickle.load(stream)
        ]
        return _Loaded(model=_Unpickler(stream, parameters).load(), files=files)
    except Exception as error:  # Whatever a model's class does not let be made from its pickle.
        _tell(error)
        return None


def _import_classes(folder: Path) -> None:
    """Import the code that a model folder brings, under the names that its classes are pickled by."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    brought = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("auto_map", {})
    for name in {"AutoConfig", "AutoModelForCausalLM"} & brought.keys():
        get_class_from_dynamic_module(brought[name], str(folder), local_files_only=True)


def _opened(pid: int, descriptor: int) -> MappedFile:
    return MappedFile(os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC))


def _tell(error: Exception) -> None:
    print(f"base weights are not shared, this rank holds its own: {type(error).__name__}: {error}", file=sys.stderr)


class _Pickler(pickle.Pickler):
    """Writes numbers in the place of parameters; one that a model uses twice is one number."""

    def __init__(self, stream: io.BytesIO, numbers: Mapping[int, int]) -> None:
        super().__init__(stream)
        self._numbers = numbers

    def persistent_id(self, value: Any) -> int | None:
        return self._numbers.get(id(value)) if isinstance(value, nn.Parameter) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(stream)
        self._parameters = parameters

    def persistent_load(self, number: int) -> nn.Parameter:
        return self._parameters[number]
