"""Tensors in mapped files: found by their bits, stored in as few bytes as hold them exactly, never half written."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from trials.mapped import AnonymousFile, StoredTensors, is_local, narrowed, same_bits

EXACT = torch.tensor([1.0, -0.0, 3.140625, math.inf, -2.5e-3]).bfloat16().float()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (EXACT, torch.bfloat16),
        (torch.tensor([1.0, 1 + 2**-10]), torch.float16),
        (torch.tensor([1.0, 1 + 2**-20]), torch.float32),
        # Exact where one looks first, and not everywhere.
        (torch.cat([torch.ones(5000), torch.tensor([1 + 2**-20])]), torch.float32),
        (torch.tensor([1e-42]), torch.float32),
    ],
)
def test_values_are_narrowed_where_no_bit_is_lost(values: torch.Tensor, dtype: torch.dtype) -> None:
    found = narrowed(values)
    assert found.dtype == dtype
    assert same_bits(values, found)


def test_equal_numbers_of_other_bits_are_not_the_same() -> None:
    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert same_bits(torch.tensor([math.nan]), torch.tensor([math.nan]))
    assert not same_bits(torch.zeros(2, 3), torch.zeros(3, 2))


def test_weights_are_found_by_their_values_under_any_name(tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(0)
    wide, half = (torch.randn(7, 40, generator=draw) for _ in range(2))
    save_file({"a.weight": wide, "b.weight": half.bfloat16(), "count": torch.arange(3)}, tmp_path / "one.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"not one")
    stored = StoredTensors(tmp_path)
    for values in (wide, half.bfloat16().float()):
        place = stored.find(values)
        assert place is not None
        assert same_bits(values, stored.files[place.file].tensor(place))
    changed = wide.clone()
    changed[3, 20] += 1e-6
    assert stored.find(changed) is None
    assert stored.find(half) is None


def test_weights_that_begin_at_odd_bytes_are_not_mapped(tmp_path: Path) -> None:
    """Other writers than the safetensors library need not align them."""
    values = torch.ones(4)
    header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    for blanks in range(4):
        padded = header + b" " * blanks
        file = struct.pack("<Q", len(padded)) + padded + values.numpy().tobytes()
        (tmp_path / "one.safetensors").write_bytes(file)
        assert (StoredTensors(tmp_path).find(values) is not None) == (len(padded) % 4 == 0)


def test_an_anonymous_file_gives_back_what_was_put_in_and_takes_no_more() -> None:
    anonymous = AnonymousFile("test")
    given = [EXACT.view(5, 1), torch.tensor([1 + 2**-20]), torch.randn(3, 4).t()]
    places = [anonymous.add(values) for values in given]
    file = anonymous.mapped()
    assert all(same_bits(values, file.tensor(place)) for values, place in zip(given, places, strict=True))
    assert [place.dtype for place in places[:2]] == [torch.bfloat16, torch.float32]
    with pytest.raises(PermissionError):
        os.pwrite(file.descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(file.descriptor, 0)


MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:5 / /mnt rw - nfs4 server:/models rw
31 30 0:6 / /mnt/fast\040disk rw shared:2 master:3 - xfs /dev/nvme0n1 rw
32 22 0:7 / /hub rw - fuse.hf-mount hf rw
33 22 0:8 / /over rw - nfs4 server:/a rw
34 22 0:9 / /over rw - tmpfs tmpfs rw
""".lstrip()


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/models/a", True), ("/mnt/a", False), ("/mnt/fast disk/a", True), ("/mnt/faster/a", False), ("/hub/a", False),
     ("/hubs/a", True), ("/over/a", True)],
)  # fmt: skip
def test_only_disks_of_the_node_are_local(path: str, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "mounts").write_text(MOUNTS, encoding="utf-8")
    assert is_local(Path(path), tmp_path / "mounts") == expected
    assert not is_local(Path(path), tmp_path / "absent")
