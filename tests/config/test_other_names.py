"""Hints by meaning: the names that other trainers have for our keys."""

from __future__ import annotations

import pytest

from unigrad.cli import main
from unigrad.config import config_keys, nearest_key
from unigrad.config.other_names import OTHER_NAMES


def test_every_hint_is_a_key() -> None:
    assert set(OTHER_NAMES.values()) - {"resume"} <= set(dict(config_keys()))


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ("train.lr", "train.learning_rate"),
        ("lr", "train.learning_rate"),
        ("train.epochs", "train.max_steps"),
        ("per_device_train_batch_size", "train.questions_per_step"),
        ("per-device-train-batch-size", "train.questions_per_step"),
        ("max_completion_length", "rollout.max_completion_length"),
        ("num_generations", "rollout.num_generations"),
        ("actor_rollout_ref.rollout.n", "rollout.num_generations"),
        ("actor_rollout_ref.actor.optim.lr", "train.learning_rate"),
        ("data.train_files", "data.train"),
        ("resume_from_checkpoint", "resume"),
        ("seed", "train.seed"),
        ("train.learning_rat", "train.learning_rate"),
    ],
)
def test_the_key_that_was_meant(given: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert nearest_key(given, ["resume", *dict(config_keys())]) == key
    assert main(["train", f"--{given}", "1"]) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"unknown key --{given}; did you mean --{key}?")
