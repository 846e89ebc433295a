"""rollout.decode_dtype: rollouts in another precision than the trainer's, measured and corrected for."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from unigrad.cli import main
from unigrad.config import Config, RolloutConfig
from unigrad.errors import ConfigError
from unigrad.policy import Policy
from unigrad.policy.products import emulates_bfloat16
from unigrad.rollout import Engine, Prompt, Sampling
from unigrad.rollout.engines import ENGINES, engine_of, is_exact, register_engine
from unigrad.train.objectives import DECODING_CAP, objectives

SMALL = {
    "tiny.train_problems": 16, "rollout.max_completion_length": 16, "rollout.num_generations": 4,
    "train.max_steps": 1, "train.questions_per_step": 4, "train.save_steps": 0, "train.eval_steps": 0,
    "train.tensorboard": "false", "train.warmup_steps": 0, "train.max_grad_norm": 0, "data.max_prompt_length": 40,
    "verify.reward_function": "even_length.reward", "rollout.decode_dtype": "bfloat16",
}  # fmt: skip


def train(run: Path, **changes: object) -> tuple[int, str, dict[str, Any]]:
    keys = {**SMALL, "output_dir": run, **{name.replace("__", "."): value for name, value in changes.items()}}
    out, options = io.StringIO(), [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(["train", "tiny-grpo", *options])
    path = run / "metrics.jsonl"
    return code, out.getvalue(), json.loads(path.read_text().splitlines()[-1]) if path.exists() else {}


@pytest.fixture
def rewarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "even_length.py").write_text(
        "def reward(prompts, completions, **columns):\n    return [float(len(each) % 2) for each in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("rewarded")
def test_the_mismatch_is_measured_and_corrected(tmp_path: Path) -> None:
    code, said, line = train(tmp_path / "default")
    assert code == 0, said
    assert "weights times π_old/π_engine (at most 2 in grpo) correct for it" in said
    assert ("WARNING: rollout.decode_dtype" in said) == emulates_bfloat16(torch.device("cpu"))
    assert line["policy/rollout_mismatch_mean"] > 3e-4
    assert line["policy/clip_fraction"] == 0
    # A cap below every ratio is all that is left of the factor, on every weight; so the factor takes part by default.
    halved = train(tmp_path / "capped", algorithm__engine_cap=0.5)[2]
    assert halved["grad_norm"] == pytest.approx(line["grad_norm"] / 2, rel=0.05)
    assert halved["grad_norm"] != pytest.approx(line["grad_norm"] / 2, rel=1e-5)
    plain = train(tmp_path / "plain", rollout__decode_dtype="null")
    assert "π_old" not in plain[1]
    assert plain[2]["policy/rollout_mismatch_max"] < 1e-4


@pytest.mark.usefixtures("rewarded")
def test_a_mismatch_above_the_alarm_is_said_once(tmp_path: Path) -> None:
    for alarm, times in ((1e-12, 1), ("null", 0)):
        keys = {"rollout__mismatch_alarm": alarm, "train__max_steps": 2}
        code, said, line = train(tmp_path / str(alarm), **keys)
        assert code == 0
        assert said.count("WARNING: step 1: policy/rollout_mismatch_kl is ") == said.count("mismatch_alarm") == times
        assert 1e-12 < line["policy/rollout_mismatch_kl"] < line["policy/rollout_mismatch_mean"]
        assert 0.9 < line["policy/rollout_ess"] < 1


@pytest.mark.parametrize("value", ["float16", "int8", "bf16"])
@pytest.mark.usefixtures("rewarded")
def test_another_precision_is_refused_in_one_line(tmp_path: Path, value: str) -> None:
    code, said, _ = train(tmp_path / "run", rollout__decode_dtype=value)
    assert code == 2
    assert len(said.strip().splitlines()) == 1
    assert "rollout.decode_dtype" in said
    assert "bfloat16" in said
    assert not (tmp_path / "run").exists()


def test_an_engine_of_a_plugin_keeps_its_own_precision() -> None:
    def build(policy: Policy, max_concurrent_tokens: int) -> Engine:
        raise AssertionError("never asked for")

    register_engine("foreign", build)
    try:
        message = r"rollout\.decode_dtype = 'bfloat16': only rollout\.engine = 'torch' can .* not 'foreign'; leave it"
        with pytest.raises(ConfigError, match=message) as error:
            engine_of(RolloutConfig(engine="foreign", decode_dtype="bfloat16"))
        assert "\n" not in str(error.value)
    finally:
        del ENGINES["foreign"]


def test_the_engine_is_exact_in_float32_alone() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=24, initializer_range=0.3,
    )  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    policy = Policy(LlamaForCausalLM(config), tokenizer)
    plain, rounded = (engine_of(RolloutConfig(decode_dtype=dtype))(policy) for dtype in (None, "bfloat16"))
    assert is_exact(plain, policy)
    assert not is_exact(rounded, policy)
    prompts, sampling = [Prompt("a", (1, 2, 3))], Sampling(num_generations=4, max_completion_length=8)
    for engine, least, most in ((plain, 0.0, 1e-5), (rounded, 1e-4, 0.3)):
        worst = 0.0
        for completion in engine.generate(prompts, sampling, 0)[0]:
            ids = torch.tensor([[1, 2, 3, *completion.token_ids]])
            with torch.no_grad():
                logp = policy.model(ids).logits[0, 2:-1].log_softmax(-1).gather(1, ids[0, 3:, None])[:, 0]
            worst = max(worst, (torch.tensor(completion.logprobs) - logp).abs().max().item())
        assert least <= worst <= most
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}


def test_what_trains_on_rollouts_alone_is_corrected_and_a_given_cap_stands() -> None:
    def caps(**sections: dict[str, Any]) -> dict[str, Any]:
        config = Config.model_validate(sections)
        (stage,) = objectives(config)
        return {term.name: term.algorithm.defaults().get("engine_cap") for term in stage.terms}

    bfloat16 = {"decode_dtype": "bfloat16"}
    assert caps(rollout={}) == {"grpo": None, "sft": None}
    assert caps(rollout=bfloat16) == {"grpo": DECODING_CAP, "sft": None}
    assert caps(rollout={"engine": "vllm"}) == {"grpo": DECODING_CAP, "sft": None}
    by_row = {"engine_correction": "sequence_mask"}
    assert caps(rollout={"engine": "vllm"}, algorithm=by_row) == {"grpo": DECODING_CAP, "sft": None}
    with pytest.raises(ConfigError, match=r"engine_correction: .* while algorithm\.engine_cap is null; set"):
        caps(algorithm=by_row)
    assert caps(rollout=bfloat16, algorithm={"engine_cap": 3.0}) == {"grpo": 3.0, "sft": None}
