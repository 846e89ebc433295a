"""π_old where the engine rounds otherwise than the trainer; what is said of engine and sampler at the start."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as FastTokenizer

from unigrad.batch import Row, Rows, Sequences
from unigrad.cli import main
from unigrad.config import TrainConfig, ValueConfig
from unigrad.data.tiny import MODEL_PATH
from unigrad.estimator import algorithm
from unigrad.policy import Policy
from unigrad.train.update import update, with_own_old_policy
from unigrad.train.update_report import UpdateReport
from unigrad.types import Reason, Trajectory, Verdict
from unigrad.world import World

SMALL = {
    "tiny.train_problems": 16, "rollout.max_completion_length": 16, "rollout.num_generations": 4,
    "train.max_steps": 1, "train.questions_per_step": 4, "train.tokens_per_micro_batch": 500, "train.save_steps": 0,
    "train.eval_steps": 0, "train.tensorboard": "false", "train.learning_rate": 1e-30, "train.warmup_steps": 0,
    "data.max_prompt_length": 40, "data.max_demonstration_length": 80,
}  # fmt: skip


def train(run: Path, recipe: str = "tiny-grpo", *flags: str, **changes: object) -> tuple[int, str, dict[str, Any]]:
    keys = {**SMALL, "output_dir": run, **{name.replace("__", "."): value for name, value in changes.items()}}
    out, options = io.StringIO(), [text for key, value in keys.items() for text in (f"--{key}", str(value))]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(["train", recipe, *options, *flags])
    path = run / "metrics.jsonl"
    return code, out.getvalue(), json.loads(path.read_text().splitlines()[-1]) if path.exists() else {}


@pytest.fixture
def mixed_rewards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A reward function that gives every group good and bad rollouts."""
    (tmp_path / "parity_of_length.py").write_text(
        "def reward(prompts, completions, **columns):\n    return [float(len(each) % 2) for each in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "parity_of_length", raising=False)
    return "parity_of_length.reward"


@pytest.mark.parametrize("name", ["gspo", "grpo"])
@pytest.mark.parametrize("questions_per_update", [4, 2])
def test_nothing_is_clipped_in_bfloat16_on_a_policy_that_has_not_moved(
    tmp_path: Path, mixed_rewards: str, name: str, questions_per_update: int
) -> None:
    code, said, line = train(
        tmp_path / "run", model__dtype="bfloat16", algorithm__name=name,
        train__questions_per_update=questions_per_update, verify__reward_function=mixed_rewards,
    )  # fmt: skip
    assert code == 0
    assert "the trainer's own log-probs, as those of the engine 'torch' are not exact" in said
    assert line["train/updates"] == 4 / questions_per_update
    assert line["policy/rollout_mismatch_max"] > 3e-4
    assert line["policy/clip_fraction"] == 0


def test_float32_goes_by_the_engine(tmp_path: Path, mixed_rewards: str) -> None:
    code, said, line = train(tmp_path / "run", algorithm__name="gspo", verify__reward_function=mixed_rewards)
    assert code == 0
    assert "π_old" not in said
    assert line["policy/rollout_mismatch_max"] < 1e-4


def sampled(generator: torch.Generator, length: int, rollout: bool) -> Trajectory:
    ids = torch.randint(13, (2 + length,), generator=generator).tolist()
    logprobs = (-2.5,) * length if rollout else None
    return Trajectory(
        prompt_ids=tuple(ids[:2]), completion_ids=tuple(ids[2:]), rollout_logprobs=logprobs,
        text="", truncated=False, reward=1.0, verdict=Verdict(True, None, Reason.RIGHT),
    )  # fmt: skip


class Gradients(torch.optim.SGD):
    """Keeps the gradients that a step would have used."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        self.seen = [p.grad.clone() for group in self.param_groups for p in group["params"] if p.grad is not None]


@pytest.mark.parametrize("budget", [1000, 20])
def test_old_is_the_policy_itself_for_rollouts_and_nothing_for_demonstrations(budget: int) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=13, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64,
    )  # fmt: skip
    tokenizer = FastTokenizer(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    policy = Policy(LlamaForCausalLM(config).double(), tokenizer)
    generator = torch.Generator().manual_seed(1)
    trajectories = [sampled(generator, 3 + index, rollout=index % 3 != 2) for index in range(6)]
    sequences = Sequences.of(trajectories, 0.7)
    grpo, sft_like = algorithm("grpo"), algorithm("luffy")
    made = [
        Row(sequence=i, question=0, algorithm=grpo if each.on_policy else sft_like, coefficient=0.5, advantage=1.0 - i)
        for i, each in enumerate(trajectories)
    ]
    updates = [Rows.of(sequences, made[:3]), Rows.of(sequences, made[3:])]
    owned = with_own_old_policy(policy, updates, budget, World())
    assert owned[0].sequences.old_logp_M is None

    def gradients(rows: Rows) -> tuple[list[torch.Tensor], UpdateReport]:
        optimizer = Gradients(policy.parameters(), lr=0.0)
        config = TrainConfig(tokens_per_micro_batch=budget, max_grad_norm=0)
        report = update(policy, optimizer, rows, config, ValueConfig(), World())
        return optimizer.seen, report

    # With the ratio at 1, GRPO is REINFORCE; a demonstration's is π_θ over nothing, as without the change.
    plain = algorithm("grpo", clip_low=1.0, clip_high=1e9)
    for number, rows in enumerate(owned):
        by_hand = [
            Row(
                sequence=row.sequence, question=0, algorithm=row.algorithm if row.algorithm is sft_like else plain,
                coefficient=0.5, advantage=row.advantage,
            )
            for row in made[3 * number : 3 * number + 3]
        ]  # fmt: skip
        own, report = gradients(rows)
        assert report.clipped == 0
        with torch.no_grad():
            known = with_own_old_policy(policy, [updates[0], Rows.of(sequences, by_hand)], 1000, World())[1]
        for a, b in zip(own, gradients(known)[0], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    # A first update that is gone through again needs it written down; it is the same to the bit.
    again = with_own_old_policy(policy, updates, budget, World(), repeated=True)[0]
    assert again.sequences.old_logp_M is not None
    for a, b in zip(gradients(owned[0])[0], gradients(again)[0], strict=True):
        assert torch.equal(a, b)


def test_a_sampler_that_cuts_off_is_warned_of_and_measured(tmp_path: Path) -> None:
    code, said, line = train(tmp_path / "cut", rollout__top_p=0.7)
    assert code == 0
    assert "WARNING: with rollout.top_p = 0.7 and top_k = 0 a rollout never holds" in said
    assert 0.01 < line["policy/cut_mass"] <= 0.3
    code, said, line = train(tmp_path / "whole")
    assert "WARNING" not in said
    assert "policy/cut_mass" not in line


def test_official_recipes_sample_from_the_whole_distribution(tmp_path: Path) -> None:
    code, said, _ = train(
        tmp_path / "run", "qwen2.5-math-1.5b-hpt-official", rollout__top_k=50, train__questions_per_step=64
    )
    assert code == 2
    assert "qwen2.5-math-1.5b-hpt-official: rollout.top_p = 1 and top_k = 50 are not the authors'" in said
    assert len(said.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def own_attention(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own_attention") / "model"
    config = BloomConfig(vocab_size=101, hidden_size=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2)
    BloomForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_PATH).save_pretrained(folder)
    return folder


def test_sft_alone_needs_no_engine(own_attention: Path, tmp_path: Path) -> None:
    code, said, line = train(tmp_path / "sft", "tiny-sft", model__name_or_path=own_attention)
    assert (code, line["tokens/generated"]) == (0, 0)
    assert "π_old" not in said
    cannot = "the torch engine cannot run BloomForCausalLM: it takes decoder-only models with standard attention"
    for sampled in ({"train__eval_steps": 1}, {"method__name": "grpo"}):
        changes = {**sampled, "rollout__engine": "torch"}
        code, said, _ = train(tmp_path / "run", "tiny-sft", "--dry-run", model__name_or_path=own_attention, **changes)
        assert (code, said.count("error")) == (2, 1)
        assert cannot in said
        assert cannot in train(tmp_path / "run", "tiny-sft", "--plan", model__name_or_path=own_attention, **changes)[1]
    assert cannot not in train(tmp_path / "run", "tiny-sft", "--plan", model__name_or_path=own_attention)[1]


def test_where_the_torch_engine_cannot_another_samples_and_a_run_says_so(
    own_attention: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changes = {"model__name_or_path": own_attention, "method__name": "grpo"}
    said = "rollout.engine: generate, transformers' own and slower, as the torch engine cannot run BloomForCausalLM"
    assert said in train(tmp_path / "plan", "tiny-sft", "--plan", **changes)[1]
    code, _, line = train(tmp_path / "run", "tiny-sft", **changes, algorithm__name="reinforce")
    assert code == 0
    assert [said in message for message in caplog.messages] == [True]
    assert line["tokens/generated"] > 0
    assert line["policy/rollout_mismatch_max"] < 1e-4
