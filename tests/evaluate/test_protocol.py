"""How completions are drawn: what an evaluation takes of the configuration, and the record of it."""

from __future__ import annotations

from unigrad.config import Config, config_keys
from unigrad.evaluate.protocol import Protocol


def test_the_record_is_the_one_that_folders_hold() -> None:
    """An evaluation that an earlier version has begun must go on under this one."""
    assert Protocol().record() == {
        "temperature": 0.6,
        "top_p": 0.95,
        "max_completion_length": 8192,
        "samples": None,
        "prompt_template": "auto",
        "apply_chat_template": None,
        "chat_template_kwargs": {},
        "system_prompt": None,
        "stop": [],
        "no_box": "last_number",
        "engine": "auto",
        "limit": None,
        "seed": 0,
        "device": "auto",
        "dtype": "auto",
        "max_concurrent_tokens": 65536,
        "rope_theta": None,
        "max_position_embeddings": None,
    }


def test_each_field_is_a_key_of_the_configuration() -> None:
    keys = Protocol.keys()
    assert set(keys.values()) <= set(dict(config_keys()))
    assert len(set(keys.values())) == len(keys)
    assert {key for key in keys.values() if key.startswith("eval.")} == {
        key for key, _ in config_keys() if key.startswith("eval.")
    }


def test_null_is_the_default() -> None:
    assert Protocol.of(dict.fromkeys(Protocol.keys().values())) == Protocol.of({}) == Protocol()
    assert Protocol.of({"eval.seed": 4, "rollout.stop": (), "eval.temperature": 0.0}) == Protocol(
        seed=4, stop=(), temperature=0.0
    )


def test_what_is_left_open_for_held_out_problems() -> None:
    config = Config.model_validate({"train": {"seed": 7}, "rollout": {"max_completion_length": 90}})
    assert (config.held_out_generations, config.held_out_completion_length, config.held_out_seed) == (1, 90, 7)
    given = {"num_generations": 4, "max_completion_length": 50, "seed": 0}
    config = Config.model_validate({"train": {"seed": 7}, "eval": given})
    assert (config.held_out_generations, config.held_out_completion_length, config.held_out_seed) == (4, 50, 0)
