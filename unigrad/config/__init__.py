"""The run's configuration: one validated tree, read from a recipe or a YAML file, with dotted overrides on top.

Nothing here imports torch, so that `--help` and every usage error are instant.
"""

from unigrad.config.algorithm import AlgorithmConfig
from unigrad.config.keys import (
    RESUMABLE_CHANGES,
    changed_keys,
    check_option,
    config_keys,
    nearest_key,
    read_option,
    type_name,
)
from unigrad.config.problem_sets import DataConfig, HeldOutConfig, SourceConfig, set_name
from unigrad.config.recipes import load_config, recipe_families, recipe_methods, recipe_names
from unigrad.config.rollout import VLLM, RolloutConfig, VllmConfig
from unigrad.config.schema import Config, EvalConfig, LoraConfig, TrainConfig, ValueConfig
from unigrad.config.section import flatten
from unigrad.config.yaml_text import read_yaml

__all__ = [
    "RESUMABLE_CHANGES",
    "VLLM",
    "AlgorithmConfig",
    "Config",
    "DataConfig",
    "EvalConfig",
    "HeldOutConfig",
    "LoraConfig",
    "RolloutConfig",
    "SourceConfig",
    "TrainConfig",
    "ValueConfig",
    "VllmConfig",
    "changed_keys",
    "check_option",
    "config_keys",
    "flatten",
    "load_config",
    "nearest_key",
    "read_option",
    "read_yaml",
    "recipe_families",
    "recipe_methods",
    "recipe_names",
    "set_name",
    "type_name",
]
