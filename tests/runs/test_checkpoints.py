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


@pytest.mark.parametrize(
    "text",
    [
        "[]", "null", "{}", "7", "{", '{"step": 4}',
        '{"step": 1000000000, "tokens": 1, "stage": 0}', '{"step": 4.0, "tokens": 1, "stage": 0}',
        '{"step": NaN, "tokens": 1, "stage": 0}', '{"step": "4", "tokens": 1, "stage": 0}',
        '{"step": 4, "tokens": -5, "stage": 0}', '{"step": 4, "tokens": 1, "stage": true}',
        '{"step": 4, "tokens": 1, "stage": 0, "more": 1}', "[" * 9999,
    ],
)  # fmt: skip
def test_a_position_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    save(tmp_path, 4)
    folder = tmp_path / "checkpoint-4"
    assert checkpoint.damage(folder) is None
    (folder / "trainer_state.json").write_text(text)
    reason = checkpoint.damage(folder)
    assert reason is not None
    assert reason.startswith(f"{folder}/trainer_state.json")
    assert "\n" not in reason


def test_damaged_checkpoints_after_a_step_stand_in_no_ones_way(tmp_path: Path) -> None:
    for step in (3, 4, 5):
        save(tmp_path, step)
    (tmp_path / "checkpoint-5.damaged").mkdir()
    checkpoint.set_aside(tmp_path, after=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-3", "checkpoint-4.damaged", "checkpoint-5.damaged",
    ]  # fmt: skip
    assert (tmp_path / "checkpoint-5.damaged" / "trainer_state.json").is_file()


def test_links_in_the_way_are_replaced_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    for name in (".checkpoint-1.partial", "checkpoint-1"):
        (tmp_path / name).symlink_to(elsewhere)
    save(tmp_path, 1)
    assert not (tmp_path / "checkpoint-1").is_symlink()
    assert checkpoint.damage(tmp_path / "checkpoint-1") is None
    assert (elsewhere / "kept").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-1", "elsewhere"]


def test_a_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-1").write_text("a user's")
    with pytest.raises(FileExistsError, match="checkpoint-1 is a file, where a folder is to be saved"):
        save(tmp_path, 1)
    assert (tmp_path / "checkpoint-1").read_text() == "a user's"
