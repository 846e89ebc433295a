"""What a config says of its model's logits."""

from __future__ import annotations

import pytest
from transformers import (
    CohereConfig,
    Gemma2Config,
    Gemma3Config,
    GraniteConfig,
    LlamaConfig,
    MptConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from unigrad.policy.head import LogitTransform, logit_transform


@pytest.mark.parametrize(
    ("config", "transform"),
    [
        (LlamaConfig(), LogitTransform()),
        (Qwen2Config(), LogitTransform()),
        (CohereConfig(), LogitTransform(0.0625)),
        (GraniteConfig(logits_scaling=4.0), LogitTransform(0.25)),
        (GraniteConfig(), LogitTransform()),
        (Gemma2Config(), LogitTransform(cap=30.0)),
        (Gemma2Config(final_logit_softcapping=None), LogitTransform()),
        (Gemma3Config(text_config={"final_logit_softcapping": 20.0}), LogitTransform(cap=20.0)),
        (MptConfig(logit_scale="inv_sqrt_d_model"), LogitTransform()),
    ],
    ids=lambda each: each.model_type if isinstance(each, PreTrainedConfig) else str(each),
)
def test_scales_and_caps_by_their_names(config: PreTrainedConfig, transform: LogitTransform) -> None:
    assert logit_transform(config) == transform


def test_one_name_that_two_architectures_read_differently() -> None:
    config = GraniteConfig(logits_scaling=4.0)
    assert logit_transform(config).scale == 0.25
    config.model_type = "hyperclovax"
    assert logit_transform(config).scale == 4.0
