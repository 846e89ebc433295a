"""The configuration's `algorithm.*` keys are the options of the registered algorithms, no more and no less."""

from __future__ import annotations

from unigrad.config import AlgorithmConfig
from unigrad.estimator import algorithm, algorithm_names


def test_every_option_is_a_key_and_every_key_an_option() -> None:
    options = {option for name in algorithm_names() for option in algorithm(name).defaults()}
    # These are not one algorithm's own: which one, how the other is averaged, and a term of the reward.
    assert set(AlgorithmConfig.model_fields) - {"name", "offline_aggregation", "kl_reward_coefficient"} == options
