"""Tensors in files that the processes of a node map: the kernel holds their pages in memory once, whoever reads them.

Maps are read-only, so whatever writes to such a tensor by mistake ends with its process; nobody else sees it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from trials.source import stored_tensors

LOCAL_FILE_SYSTEMS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"})
"""Where a page can be read again whenever the kernel has dropped it. A network's file system may fail or hang then, and
hf-mount, through FUSE, deadlocks under parallel page faults (transformers 5.23, ``modeling_utils``)."""
_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_NARROW = (torch.bfloat16, torch.float16)
_ALIGNMENT = 64
_END = 8
"""Elements at each end of a tensor by which others of the same values are looked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a tensor lies."""

    file: int
    """Position in a list of files."""
    offset: int
    """In bytes."""
    dtype: torch.dtype
    shape: tuple[int, ...]


class MappedFile:
    """A file whose tensors are its own pages; it stays open for as long as this lives."""

    def __init__(self, descriptor: int) -> None:
        """Map the open file ``descriptor``, and own it from now on."""
        self.descriptor = descriptor
        self.pages = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        self._stamp = self._now()

    def __del__(self) -> None:
        os.close(self.descriptor)

    @property
    def identity(self) -> tuple[int, int]:
        """What no other open file of this node has."""
        found = os.fstat(self.descriptor)
        return found.st_dev, found.st_ino

    @property
    def has_changed(self) -> bool:
        """Tell whether the file was written to since it was mapped."""
        return self._now() != self._stamp

    def tensor(self, place: Place) -> Tensor:
        """Return the tensor at a place; it must not be written to, and keeps the map alive."""
        with warnings.catch_warnings():
            # torch has no tensors that cannot be written to, and says so; that is what is wanted here.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            flat = torch.frombuffer(self.pages, dtype=place.dtype, count=prod(place.shape), offset=place.offset)
        return flat.view(place.shape)

    def _now(self) -> tuple[int, int]:
        found = os.fstat(self.descriptor)
        return found.st_size, found.st_mtime_ns


class StoredTensors:
    """The weights in a folder's safetensors files, found by their values: a loader may have given them other names."""

    def __init__(self, folder: Path) -> None:
        self.files: list[MappedFile] = []
        self._by_ends: dict[object, list[Place]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            path = path.resolve()
            if is_local(path):
                self._add(path)

    def find(self, values: Tensor) -> Place | None:
        """Return where a tensor lies that is ``values``, fp32, bit for bit once it is widened; None where none is."""
        for place in self._by_ends.get(_ends(values), ()):
            if same_bits(values, self.files[place.file].tensor(place)):
                return place
        return None

    def _add(self, path: Path) -> None:
        try:
            entries, begin = stored_tensors(path)
            places = [place for entry in entries.values() if (place := self._place(entry, begin)) is not None]
        except (ValueError, KeyError, TypeError, struct.error):
            return  # Not one that the model was loaded from.
        if not places:
            return
        file = MappedFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self.files.append(file)
        for place in places:
            self._by_ends.setdefault(_ends(file.tensor(place)), []).append(place)

    def _place(self, entry: dict[str, Any], begin: int) -> Place | None:
        dtype = _DTYPES.get(entry["dtype"])
        offset = begin + int(entry["data_offsets"][0])
        if dtype is None or offset % dtype.itemsize or not prod(entry["shape"]):
            return None
        return Place(file=len(self.files), offset=offset, dtype=dtype, shape=tuple(entry["shape"]))


class AnonymousFile:
    """A file in memory that has no name: it is gone with the last process that has it open, however that ends."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.stream: BinaryIO = open(self.descriptor, "wb", closefd=False)  # noqa: SIM115  (closed by ``mapped``)
        self._is_owned = True

    def __del__(self) -> None:
        if self._is_owned:
            with suppress(OSError):
                self.stream.close()
            os.close(self.descriptor)

    def add(self, values: Tensor) -> Place:
        """Write a tensor, fp32, in the narrowest type that holds it exactly; raises OSError where memory is short."""
        values = narrowed(values).contiguous()
        self.stream.write(bytes(-self.stream.tell() % _ALIGNMENT))
        offset = self.stream.tell()
        self.stream.write(values.view(-1).view(torch.uint8).numpy().data)
        return Place(file=0, offset=offset, dtype=values.dtype, shape=tuple(values.shape))

    def mapped(self) -> MappedFile:
        """Return it for reading; from now on nobody can write to it."""
        self.stream.close()
        self._is_owned = False
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        return MappedFile(self.descriptor)


def same_bits(values: Tensor, stored: Tensor) -> bool:
    """Tell whether ``stored``, widened to fp32, is ``values`` bit for bit, NaN and the sign of zero included."""
    if values.shape != stored.shape:
        return False
    return torch.equal(values.contiguous().view(torch.int32), stored.float().contiguous().view(torch.int32))


def narrowed(values: Tensor) -> Tensor:
    """Return fp32 values in half as many bytes where no bit is lost by that, else as they are."""
    few = values.reshape(-1)[: 64 * _END]
    for dtype in _NARROW:
        if same_bits(few, few.to(dtype)):
            narrow = values.to(dtype)
            if same_bits(values, narrow):
                return narrow
    return values


def is_local(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Tell whether a file lies on a disk of this node, so far as the kernel's list of mounts tells."""
    try:
        lines = mounts.read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    longest, kind = "", ""
    for line in lines:
        left, _, right = line.partition(" - ")
        # Blanks and the like are written as three octal digits.
        point = re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), left.split()[4])
        # Of two mounts on the same point, the later one is seen.
        if path.is_relative_to(point) and len(point) >= len(longest):
            longest, kind = point, right.split()[0]
    return kind in LOCAL_FILE_SYSTEMS


def _ends(values: Tensor) -> object:
    flat = values.reshape(-1)
    ends = torch.cat([flat[:_END], flat[-_END:]]).float()
    return tuple(values.shape), ends.numpy().tobytes()
