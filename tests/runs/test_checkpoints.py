from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from unigrad.runs import checkpoints as checkpoint


def save(run: Path, step: int) -> None:
    checkpoint.write_atomically(run / f"checkpoint-{step}", checkpoint.Position(step).write, 0)


def test_checkpoints_are_found_by_step_and_pruned_oldest_first(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        save(tmp_path, step)
    assert [step for step, _ in checkpoint.checkpoints(tmp_path)] == [2, 9, 10]
    checkpoint.prune(tmp_path, keep=2)
    assert [step for step, _ in checkpoint.checkpoints(tmp_path)] == [9, 10]
    checkpoint.prune(tmp_path, keep=None)
    assert len(checkpoint.checkpoints(tmp_path)) == 2


def test_what_an_interrupted_save_left_is_no_checkpoint_and_goes(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".checkpoint-2.partial").mkdir()
    (tmp_path / "checkpoint-3").mkdir()  # copied by hand, and not to the end
    assert [step for step, _ in checkpoint.checkpoints(tmp_path)] == [1]
    checkpoint.prune(tmp_path, keep=1)
    assert not (tmp_path / ".checkpoint-2.partial").exists()


def test_a_failing_write_leaves_what_was_there(tmp_path: Path) -> None:
    save(tmp_path, 1)

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(checkpoint.NoSpace, match="no space left while saving"):
        checkpoint.write_atomically(tmp_path / "checkpoint-2", fail, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1"]


def test_too_little_space_is_seen_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(checkpoint.NoSpace, match="MiB are free"):
        checkpoint.write_atomically(tmp_path / "checkpoint-1", lambda folder: None, 2**70)
    assert list(tmp_path.iterdir()) == []
