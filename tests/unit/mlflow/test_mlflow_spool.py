from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.core.errors import RecordError
from sweeper.spool import SWEEP_KEY, FlushedOffsets, Spool, SpoolEvent


def _measured(milestone: int, **body: object) -> SpoolEvent:
    return SpoolEvent(kind="measured", wall_time_ms=1000 + milestone, body={"milestone": milestone, **body})


def test_events_come_back_as_they_were_appended(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    events = (SpoolEvent(kind="opened", wall_time_ms=5, body={"trial": {"name": "b1"}}), _measured(1, loss="NaN"))
    for event in events:
        assert spool.append("f00d", event)
    assert Spool(tmp_path).read("f00d").events == events


def test_a_milestone_already_there_is_not_appended_even_with_other_numbers_by_another_process(tmp_path: Path) -> None:
    Spool(tmp_path).append("f00d", _measured(1, loss=2.0))
    assert not Spool(tmp_path).append("f00d", _measured(1, loss=3.0))
    assert Spool(tmp_path).append("f00d", _measured(2))
    assert [event.body["milestone"] for event in Spool(tmp_path).read("f00d").events] == [1, 2]


def test_a_trial_can_be_opened_again_after_its_close_but_not_twice_in_a_row(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    opened = SpoolEvent(kind="opened", wall_time_ms=1)
    closed = SpoolEvent(kind="closed", wall_time_ms=2, body={"state": "pruned"})
    sequence = [opened, opened, _measured(1), opened, closed, closed, opened]
    assert [spool.append("f00d", event) for event in sequence] == [True, False, True, False, True, False, True]


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_torn_last_line_is_not_read_and_is_cut_off_before_the_next_append(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path)
    spool.append("f00d", _measured(1))
    spool.append("f00d", _measured(2))
    path = tmp_path / "spool" / "f00d.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])

    torn = Spool(tmp_path)
    chunk = torn.read("f00d")
    assert [event.body["milestone"] for event in chunk.events] == [1]
    assert chunk.torn_bytes == len(whole) - cut - chunk.next_offset
    assert torn.cut_torn() == {"f00d": chunk.torn_bytes}
    assert torn.append("f00d", _measured(2))
    assert path.read_bytes() == whole


def test_an_append_alone_mends_a_torn_line(tmp_path: Path) -> None:
    Spool(tmp_path).append("f00d", _measured(1))
    path = tmp_path / "spool" / "f00d.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert Spool(tmp_path).append("f00d", _measured(1))
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    "line", [b"not json\n", b"[1]\n", b'{"kind":"measured"}\n', b'{"kind":"x","wall_time_ms":1}\n']
)
def test_a_damaged_line_in_the_middle_is_refused(tmp_path: Path, line: bytes) -> None:
    spool = Spool(tmp_path)
    spool.append("f00d", _measured(1))
    with (tmp_path / "spool" / "f00d.jsonl").open("ab") as file:
        file.write(line)
    with pytest.raises(RecordError, match="f00d"):
        spool.read("f00d")


def test_reading_on_from_an_offset_gives_every_event_once_whatever_the_chunk_size(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for milestone in range(1, 30):
        spool.append("f00d", _measured(milestone, filler="x" * milestone))
    for max_bytes in (1, 64, 1000, 1 << 20):
        offset, found = 0, []
        while chunk := spool.read("f00d", offset, max_bytes):
            if not chunk.events:
                break
            found += [event.body["milestone"] for event in chunk.events]
            offset = chunk.next_offset
        assert found == list(range(1, 30))


def test_an_offset_inside_a_line_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append("f00d", _measured(1))
    with pytest.raises(RecordError, match="start of a line"):
        spool.read("f00d", 3)


def test_the_sweeps_own_file_comes_first(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for key in ("0aaa", SWEEP_KEY, "ffff"):
        spool.append(key, SpoolEvent(kind="opened", wall_time_ms=1))
    assert spool.held_keys() == (SWEEP_KEY, "0aaa", "ffff")


def test_offsets_survive_the_process_and_count_for_one_target_only(tmp_path: Path) -> None:
    path = tmp_path / "flushed.json"
    FlushedOffsets(path, "here").advance("f00d", 120)
    assert FlushedOffsets(path, "here").get("f00d") == 120
    assert FlushedOffsets(path, "there").get("f00d") == 0
