"""A trial that was interrupted ends as one that was not."""

from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from rank_jobs import continue_trial
from rank_processes import in_gang
from trial_cases import config, save_model, write_chats

from sweeper.core.config import TrialConfig
from sweeper.core.decode import decode, encode
from sweeper.core.errors import InputError, RecordError
from trials import checkpoint
from trials.session import TrialSession

HALF = 6
"""Steps before the checkpoint, of 12."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A trial with warmup, decay, dropout and an epoch border, so that everything there is must be restored."""
    folder = tmp_path_factory.mktemp("resume")
    model = save_model(folder / "model", attention_dropout=0.1)
    file = write_chats(folder / "train.jsonl", 30)
    one = config(model, file, {"t": file}, epochs=3.2, warmup_steps=8, schedule="cosine", milestones=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPER_CACHE", str(folder / "cache"))
        yield encode(one)


def with_train(plain: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return plain | {"train": plain["train"] | settings}


def test_one_rank_resumes_bit_for_bit(plain: dict[str, Any], tmp_path: Path) -> None:
    whole = continue_trial(0, 1, "", plain, "", str(tmp_path / "c"))
    assert len(whole) == 2 * HALF
    assert continue_trial(0, 1, "", plain, str(tmp_path / "c"), None) == whole[HALF:]


@pytest.mark.slow
def test_two_ranks_resume_bit_for_bit_and_one_rank_to_rounding(plain: dict[str, Any], tmp_path: Path) -> None:
    calm = tmp_path / "calm"
    shutil.copytree(plain["model"]["path"], calm)
    (calm / "config.json").write_text((calm / "config.json").read_text().replace("0.1", "0.0"))
    plain = plain | {"model": plain["model"] | {"path": str(calm)}}
    two = with_train(plain, engine="fsdp", ranks=2)
    whole = in_gang(2, continue_trial, two, "", str(tmp_path / "c"))
    assert in_gang(2, continue_trial, two, str(tmp_path / "c"), None) == whole[HALF:]
    alone = continue_trial(0, 1, "", plain, str(tmp_path / "c"), None)
    for mine, theirs in zip(alone, whole[HALF:], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    continue_trial(0, 1, "", plain, "", str(tmp_path / "one"))
    for mine, theirs in zip(in_gang(2, continue_trial, two, str(tmp_path / "one"), None), alone, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)


def test_a_checkpoint_of_another_trial_is_refused(plain: dict[str, Any], tmp_path: Path) -> None:
    continue_trial(0, 1, "", plain, "", str(tmp_path / "c"))
    other = with_train(plain, learning_rate=0.5)
    with pytest.raises(InputError, match="is a checkpoint of another config"):
        continue_trial(0, 1, "", other, str(tmp_path / "c"), None)


def test_an_incomplete_checkpoint_is_none(plain: dict[str, Any], tmp_path: Path) -> None:
    """Killed while writing, the folder keeps its unfinished name and the one before it stays the newest."""
    continue_trial(0, 1, "", plain, "", str(checkpoint.path_of(tmp_path, 6)))
    shutil.copytree(checkpoint.path_of(tmp_path, 6), tmp_path / ".step-000000012.unfinished")
    checkpoint.path_of(tmp_path, 9).mkdir()
    assert checkpoint.newest(tmp_path) == checkpoint.path_of(tmp_path, 6)
    with pytest.raises(InputError, match="is no complete checkpoint"):
        continue_trial(0, 1, "", plain, str(checkpoint.path_of(tmp_path, 9)), None)


def test_only_the_last_few_checkpoints_stay(tmp_path: Path) -> None:
    for step in (5, 100, 20):
        checkpoint.path_of(tmp_path, step).mkdir()
    checkpoint.keep_last(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000020", "step-000000100"]


@pytest.fixture
def session(plain: dict[str, Any]) -> Any:
    one = TrialSession(rank=0, world_size=1, device="cpu")
    one.connect("")
    one.start(decode(TrialConfig, plain))
    yield one
    one.close()


def finish(session: TrialSession) -> list[tuple[float, float]]:
    points = []
    while not session.is_over:
        measurement = session.advance()
        assert measurement is not None
        points += [(point.loss, point.grad_norm) for point in measurement.series]
    return points


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Hold every write in the background until the event is set: a slow disk."""
    from torch.distributed.checkpoint import state_dict_saver

    opened, write = threading.Event(), state_dict_saver.save

    def slow(*arguments: Any, **options: Any) -> Any:
        assert opened.wait(60)
        return write(*arguments, **options)

    monkeypatch.setattr(state_dict_saver, "save", slow)
    return opened


def test_training_goes_on_while_a_checkpoint_is_written(session, plain, gate, tmp_path) -> None:
    """What is written is the state at the call, though every weight changes before the first byte is on disk."""
    session.advance()
    session.save(tmp_path / "c")
    rest = finish(session)
    assert len(rest) == HALF
    assert not (tmp_path / "c").exists()
    gate.set()
    session.finish_saving()
    session.start(decode(TrialConfig, plain))
    session.load(tmp_path / "c")
    assert finish(session) == rest


def test_one_checkpoint_is_written_at_a_time_and_the_last_is_waited_for(session, gate, tmp_path) -> None:
    session.advance()
    session.save_milestone(tmp_path, keep=1)
    session.advance()
    threading.Timer(0.2, gate.set).start()
    session.save_milestone(tmp_path, keep=1)
    assert checkpoint.path_of(tmp_path, HALF).is_dir(), "the first is complete when the second begins"
    session.close()
    assert checkpoint.newest(tmp_path) == checkpoint.path_of(tmp_path, 2 * HALF)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failed_write_is_told_at_the_next_call_and_leaves_no_checkpoint(session, gate, tmp_path) -> None:
    session.advance()
    session.save(tmp_path / "c")
    shutil.rmtree(tmp_path / ".c.unfinished")
    (tmp_path / ".c.unfinished").touch()
    gate.set()
    with pytest.raises(RecordError, match="a checkpoint could not be written"):
        session.finish_saving()
    assert not (tmp_path / "c").exists()
    (tmp_path / ".c.unfinished").unlink()
    session.save(tmp_path / "c")
    session.finish_saving()
    assert (tmp_path / "c").is_dir()
