"""The configuration tree: recipes, overrides, one-line errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from unigrad.config import Config, changed_keys, config_keys, load_config, recipe_names
from unigrad.errors import ConfigError


@pytest.mark.parametrize("recipe", recipe_names())
def test_every_bundled_recipe_loads_and_its_dump_repeats_it(recipe: str, tmp_path: Path) -> None:
    config = load_config(recipe)
    path = tmp_path / "config.yaml"
    path.write_text(config.dump(), encoding="utf-8")
    assert load_config(str(path)) == config


def test_the_recipes_of_the_issue_are_there() -> None:
    assert {"tiny-hpt", "tiny-sft", "tiny-grpo", "smollm2-gsm8k"} <= set(recipe_names())


def test_overrides_are_typed() -> None:
    config = load_config(
        "tiny-hpt",
        {
            "train.learning_rate": "1e-5",
            "train.max_steps": "7",
            "data.eval": "null",
            "rollout.stop": '["\\n\\n", "END"]',
            "model.name_or_path": "no",  # YAML 1.1 would read False
            "output_dir": "123",
            "train.tensorboard": "false",
            "method.threshold": "0.25",
        },
    )
    assert config.train.learning_rate == 1e-5
    assert config.train.max_steps == 7
    assert config.data.eval is None
    assert config.rollout.stop == ("\n\n", "END")
    assert config.model.name_or_path == "no"
    assert config.output_dir == "123"
    assert config.train.tensorboard is False
    assert config.method.threshold == 0.25


def test_a_recipe_may_stand_on_another(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: tiny-grpo\ntrain: {max_steps: 3}\n", encoding="utf-8")
    (tmp_path / "yours.yaml").write_text("base: mine.yaml\noutput_dir: here\n", encoding="utf-8")
    config = load_config(str(tmp_path / "yours.yaml"))
    assert (config.method.name, config.train.max_steps, config.output_dir) == ("grpo", 3, "here")
    assert config.train.questions_per_step == load_config("tiny-hpt").train.questions_per_step


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"model.lora.r": "0"}, "tiny-hpt: model.lora.r = 0: input should be greater than or equal to 1"),
        (
            {"model.lora.r": "4", "model.lora.alpha": "0"},
            "tiny-hpt: model.lora.alpha = 0: input should be greater than 0",
        ),
        (
            {"model.lora.r": "4", "model.lora.dropout": "0.1"},
            "tiny-hpt: model.lora.dropout = 0.1: must be 0: with dropout the policy that is trained would not be the "
            "one that sampled",
        ),
        (
            {"model.lora.target_modules": "q_proj"},
            "tiny-hpt: model.lora = {'target_modules': 'q_proj'}: alpha and target_modules are those of an adapter, "
            "and without r there is none",
        ),
        ({"model.lora.rank": "8"}, "unknown key 'model.lora.rank'; did you mean 'model.lora.r'?"),
        ({"train.max_stepz": "3"}, "unknown key 'train.max_stepz'; did you mean 'train.max_steps'?"),
        ({"max_steps": "3"}, "unknown key 'max_steps'; did you mean 'train.max_steps'?"),
        ({"train.max_steps": "0"}, "tiny-hpt: train.max_steps = 0: input should be greater than or equal to 1"),
        (
            {"train.max_steps": "many"},
            "tiny-hpt: train.max_steps = 'many': input should be a valid integer, unable to parse string as an integer",
        ),
        (
            {"train.lr_scheduler_type": "cosin"},
            "tiny-hpt: train.lr_scheduler_type = 'cosin': must be one of constant, cosine, linear; "
            "did you mean 'cosine'?",
        ),
        ({"train.learning_rate": ".nan"}, "tiny-hpt: train.learning_rate = nan: input should be a finite number"),
        (
            {"train.questions_per_step": "16", "train.questions_per_update": "5"},
            "tiny-hpt: train.questions_per_update (5) must divide train.questions_per_step (16)",
        ),
    ],
)
def test_a_bad_override_is_one_line(overrides: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config("tiny-hpt", overrides)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {max_step: 3}", "unknown key 'train.max_step'; did you mean 'train.max_steps'?"),
        ("trian: {max_steps: 3}", "unknown key 'trian'"),
        ("train: 3", "train = 3: input should be a valid dictionary or instance of TrainConfig"),
        ("- a list", "its top must be a mapping of sections, not list"),
        ("train: {max_steps: 3", "line 1: not YAML"),
        ("a: 'open", "not YAML"),
        ("base: me.yaml", "its base leads back to itself"),
        ("base: tiny-htp", "unknown recipe 'tiny-htp'; did you mean 'tiny-hpt'?"),
    ],
)
def test_a_bad_recipe_is_one_line_naming_the_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "me.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(str(path))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read recipe .*none\.yaml: No such file or directory; bundled: "):
        load_config(str(tmp_path / "none.yaml"))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        load_config(str(tmp_path / "bytes.yaml"))
    with pytest.raises(ConfigError, match="unknown recipe 'tiny-hpd'; did you mean 'tiny-hpt'"):
        load_config("tiny-hpd")


def test_every_key_has_a_description() -> None:
    assert [key for key, field in config_keys() if not field.description] == []


def test_the_trees_are_closed_and_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.max_steps = 3  # type: ignore[misc]


def test_changed_keys_by_name() -> None:
    before = load_config("tiny-hpt")
    after = load_config("tiny-hpt", {"train.seed": "9", "train.save_steps": "1"})
    assert changed_keys(before, after, ignoring=["train.save_steps"]) == ["train.seed"]


def test_a_mix_of_problem_sets() -> None:
    config = load_config("tiny-hpt", {"data.train": "[a.jsonl, {path: b.jsonl, weight: 0.5}]"})
    assert [(each.path, each.weight) for each in config.data.train_sets] == [("a.jsonl", 1.0), ("b.jsonl", 0.5)]
    assert Config.model_validate(config.model_dump()) == config
    (alone,) = load_config("tiny-hpt", {"data.train": "a.jsonl"}).data.train_sets
    assert (alone.path, alone.weight) == ("a.jsonl", 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"data\.train = \[\]: it names no problem set"),
        ("[{path: a, weight: 0}]", r"data\.train\.weight = 0: input should be greater than 0"),
        ("[{path: a, wieght: 1}]", r"unknown key 'data\.train\.wieght'; .*"),
        ("[{weight: 1}]", r"data\.train\.path = .*: field required"),
    ],
)
def test_a_mix_that_is_none(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^tiny-hpt: {message}\Z"):
        load_config("tiny-hpt", {"data.train": text})
