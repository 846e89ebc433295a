"""The run's configuration as one validated tree of sections: every key with its type, bounds, default and meaning."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, create_model, field_validator, model_validator

from unigrad.config.algorithm import AlgorithmConfig, algorithm_section
from unigrad.config.problem_sets import DataConfig
from unigrad.config.rollout import MOST_COMPLETIONS, RolloutConfig
from unigrad.config.section import Given, NonNegative, Positive, Section, Seed, Share, with_options
from unigrad.options import METHOD_OPTIONS, SOLVED_AT, VERIFIER, all_options
from unigrad.types import NoBox


def comma_separated(value: Any) -> Any:
    """The parts of a text; anything else as it is, a number alone as one of its kind."""
    if isinstance(value, str):
        return tuple(filter(None, map(str.strip, value.split(","))))
    return (value,) if isinstance(value, int | float) else value


class LoraConfig(Section):
    """A low-rank adapter, W + (alpha/r)·B·A in place of W: A and B are trained, and the model's own weights are not."""

    r: Positive | None = None
    """Rank of a LoRA adapter, which alone is trained then (needs unigrad[peft]); null: all of the model is trained"""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """The adapter's products are scaled by alpha/r; null: 2·r"""
    dropout: float = 0.0
    """Only 0: with dropout the policy that is trained would not be the one that sampled"""
    target_modules: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Names or endings of the linear layers that are adapted, with commas, such as q_proj,v_proj; empty: all of them"""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return comma_separated(value) or ()

    @field_validator("dropout")
    @classmethod
    def _no_noise(cls, value: float) -> float:
        if value != 0:
            raise ValueError("must be 0: with dropout the policy that is trained would not be the one that sampled")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.r is None and (self.alpha is not None or self.target_modules):
            raise ValueError("alpha and target_modules are those of an adapter, and without r there is none")
        return self

    @property
    def scaled_alpha(self) -> float:
        """`alpha`, or what it is by default. Only with `r`."""
        assert self.r is not None
        return 2.0 * self.r if self.alpha is None else self.alpha


class ModelConfig(Section):
    name_or_path: Given = "tiny"
    """The policy to train: a hub id, a folder, a .gguf file, or `tiny`, the embedded base model"""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the forward pass; the trained weights stay float32. auto: bfloat16 on cuda, else float32"""
    save_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the weights in final/: float32, as trained, or half of that; checkpoints stay as trained"""
    device: str = "auto"
    """cuda, mps, cpu, or auto: the first of these that is there"""
    attn_implementation: str | None = None
    """Attention kernel as transformers names it (sdpa, eager, flash_attention_2); null: transformers' choice"""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time"""
    rope_theta: Annotated[float, Field(gt=0)] | None = None
    """Base of the rotary position embedding, in place of the model's own; null: the model's own"""
    max_position_embeddings: Positive | None = None
    """Tokens of the longest prompt with its completion, in place of the model's own limit; null: the model's own"""
    lora: LoraConfig = LoraConfig()


class TinyConfig(Section):
    train_problems: Annotated[int, Field(ge=1, le=100_000)] = 2000
    """Problems the embedded generator makes for training"""
    eval_problems: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Problems the embedded generator makes for evaluation; disjoint from the training ones"""
    expert_error_rate: Share = 0.2
    """Share of the embedded demonstrations that hold a wrong step and so a wrong answer"""
    seed: Seed = 0
    """Seed of the embedded generator"""


class VerifyConfig(Section):
    timeout_seconds: Annotated[float, Field(gt=0)] = 1.0
    """Limit for one check, in seconds of a common server: counted in calls, so that no load changes a verdict"""
    workers: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Worker processes for the checks that need symbolic mathematics; null: one a thread of the policy, 2 to 8"""
    no_box: NoBox = "last_number"
    """What a completion without a box is: last_number reads its last number or option, wrong as for the authors"""
    reward_function: str | None = None
    """Your own reward, `package.module.function` or `file.py:function`, with TRL's signature f(prompts, completions,
    **columns)"""
    reward_functions: tuple[str, ...] = ()
    """Several rewards, with commas, whose weighted sum counts; `verify` is the verifier's (reward/<name>/mean: each)"""
    reward_weights: tuple[float, ...] | None = None
    """The weight of each of reward_functions, with commas; null: 1 each"""
    reward_timeout_seconds: Annotated[float, Field(gt=0)] | None = None
    """Limit for one call of a reward function; what it has not scored by then is as if it gave None, and is counted in
    verify/reward_timed_out. null: no limit"""
    reward_workers: Annotated[int, Field(ge=1, le=1024)] = 1
    """Calls of a reward function side by side, in threads, each for its share of the completions: for slow judges"""

    @field_validator("reward_functions", "reward_weights", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return comma_separated(value)

    @property
    def needs_answers(self) -> bool:
        """Whether the verifier judges; a reward function asks for what it needs."""
        return not self.reward_function and (not self.reward_functions or VERIFIER in self.reward_functions)

    def check(self) -> None:
        """Raises ValueError where the rewards and their weights do not fit together."""
        functions, weights = self.reward_functions, self.reward_weights
        if self.reward_function and functions:
            raise ValueError("verify.reward_function and verify.reward_functions: give one of them")
        if twice := next((each for each in functions if functions.count(each) > 1), None):
            raise ValueError(f"verify.reward_functions names {twice!r} twice; give it a larger weight instead")
        if not (self.reward_function or functions):
            for key in ("reward_timeout_seconds", "reward_workers"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise ValueError(f"verify.{key} is for verify.reward_function, and there is none")
        if weights is not None and len(weights) != len(functions):
            raise ValueError(
                f"verify.reward_weights has {len(weights)} weights for {len(functions)} of verify.reward_functions"
            )


class MethodConfig(Section):
    name: str = "hpt"
    """Which trajectories each question trains on, and how: a row of `unigrad algorithms --methods`"""
    gate: str | None = None
    """switch, drop, rollouts, demonstrations, both, linear or table: what decides; null: the method's own"""
    threshold: Annotated[float, Field(ge=0)] | None = None
    """Of switch and drop, γ: SFT where at most so many rollouts are solved (a count; below 1 a rate); null: its own"""
    table: tuple[tuple[float, ...], ...] | None = None
    """Of the gate table: [α, β] for 0, 1, … solved rollouts, the last for more; null: the method's own"""
    solved_at: float = SOLVED_AT
    """A completion is solved from this reward on: for the gate, the metrics, and ±1 advantages (reinforce, srft)"""
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """The RL term is multiplied with this"""
    beta: Annotated[float, Field(ge=0)] = 1.0
    """The terms on demonstrations are multiplied with this (the authors' sft_loss_coef)"""
    selected_mean: bool = False
    """SFT is the mean over the demonstrations that train, as in the authors' code, not over all questions (Eq. 12)"""
    lone_demonstration: bool = False
    """off_on, mix_on: a demonstration in its rollouts' place has its reward as its advantage (the authors' code), as a
    group of one; else it is compared with them"""
    first_stage: Annotated[float, Field(gt=0, lt=1)] | None = None
    """sft_then_grpo: share of the run that its first stage takes; null: the method's own, a half"""
    mu_peak: Share | None = None
    """chord_mu: μ where its fall begins; null: 0.9"""
    mu_valley: Share | None = None
    """chord_mu: μ at the end of its fall; null: 0.05"""
    mu_warmup_share: Share | None = None
    """chord_mu: share of the run over which μ first rises from 0; null: 0"""
    mu_decay_share: Share | None = None
    """chord_mu: share of the run over which μ falls, along a cosine; null: 0.5"""


class ValueConfig(Section):
    """The value head of ppo."""

    clip: Annotated[float, Field(gt=0)] = 0.2
    """A value that moved further than this from its rollout's stops training"""
    coefficient: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the value loss"""


class TrainConfig(Section):
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """AdamW, its moments in float32, or in 8 bits: 2 bytes a weight for 8 (needs unigrad[bitsandbytes])"""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-6
    """Peak learning rate of AdamW"""
    lr_scheduler_type: Literal["constant", "cosine", "linear"] = "constant"
    """Course of the learning rate after the warm-up; cosine and linear fall to 0 at max_steps"""
    warmup_steps: NonNegative = 0
    """Steps of linear warm-up"""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decoupled weight decay, on matrices only"""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's decay of the first moment"""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's decay of the second moment"""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """AdamW's denominator floor"""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this norm; 0: no clipping"""
    skip_grad_norm: Annotated[float, Field(ge=0)] = 0.0
    """An update is skipped when its gradient norm passes this, as when it is not finite; 0: only the latter"""
    max_steps: Positive = 500
    """Steps; one is one batch of rollouts and its updates"""
    max_tokens: Positive | None = None
    """The run ends, before max_steps, once so many tokens were generated and trained; null: no such end"""
    questions_per_step: Annotated[int, Field(ge=1, le=MOST_COMPLETIONS)] = 128
    """Questions of one step; each gets rollout.num_generations rollouts"""
    questions_per_update: Positive | None = None
    """Questions of one optimizer update (a mini-batch of the step's rollouts); null: all of the step"""
    num_iterations: Positive = 1
    """How often a step's updates are gone through, on the same rollouts; π_old stays the step's start"""
    tokens_per_micro_batch: Positive = 16384
    """Tokens of one forward and backward pass, padding included; changes memory and speed, never the gradient"""
    seed: Seed = 0
    """Seed of the order of the problems and of every rollout"""
    save_steps: NonNegative = 50
    """A checkpoint every so many steps; 0: off"""
    save_total_limit: Positive | None = 2
    """Checkpoints kept; older ones go once a new one is complete; null: all"""
    keep_best: bool = False
    """Save a checkpoint at each evaluation that beats all before it, and keep the best one whatever save_total_limit"""
    patience: Positive | None = None
    """The run ends once so many evaluations in a row are no better than the best before them; null: it does not"""
    eval_steps: NonNegative = 10
    """An evaluation every so many steps, and before the first and after the last; 0: off"""
    tensorboard: bool = True
    """Write TensorBoard event files beside metrics.jsonl"""
    wandb: bool = False
    """Log to Weights & Biases too (needs unigrad[wandb]; WANDB_MODE=offline stays on this machine)"""
    push_to_hub: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")] | None = None
    """Upload final/ to this repository of the hub at the end (USER/NAME, made private); null: it stays here"""
    save_token_logprobs: bool = True
    """Write each token's text and log-prob into the rollout files, for `unigrad report`; about 13 bytes a token"""


class RanksConfig(Section):
    """Of a run that several processes train together (torchrun, Ray); of one process none of it counts."""

    sharded: bool = True
    """Each rank keeps a part of the weights, gradients and moments (FSDP2); false: each keeps all, for small models"""
    cpu_offload: bool = False
    """What is sharded lies in main memory while it is not used: less GPU memory, more time"""
    timeout_seconds: Annotated[float, Field(gt=0)] = 1800.0
    """So long a rank waits for the others before the run ends: more than their rollouts may differ by"""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cpu_offload and not self.sharded:
            raise ValueError("cpu_offload is of sharded weights, and sharded is false")
        return self


class EvalConfig(Section):
    """How held-out problems and benchmarks are sampled; the defaults are the paper's protocol (§4.1)."""

    num_generations: Annotated[int, Field(ge=1, le=MOST_COMPLETIONS)] | None = None
    """Samples of each problem; accuracy is their mean (avg@k). null: 1 for held-out problems, a benchmark's own k"""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """Sampling temperature of the evaluation; 0: greedy"""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus of the evaluation"""
    max_completion_length: Positive | None = None
    """Longest completion of the evaluation in tokens; null: rollout.max_completion_length for held-out problems, for
    benchmarks 8192 or what the model's positions leave"""
    seed: Seed | None = None
    """Seed of every completion of the evaluation; null: train.seed for held-out problems, 0 for benchmarks"""


class Config(Section):
    """Everything a run depends on."""

    output_dir: Given = "runs/unigrad"
    """The run's folder; it must not hold a run yet"""
    plugins: tuple[str, ...] = ()
    """Modules of your own, with commas: what they register can be chosen by name, and their options are keys too"""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    tiny: TinyConfig = TinyConfig()
    rollout: RolloutConfig = RolloutConfig()
    verify: VerifyConfig = VerifyConfig()
    method: MethodConfig = MethodConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    value: ValueConfig = ValueConfig()
    train: TrainConfig = TrainConfig()
    ranks: RanksConfig = RanksConfig()
    eval: EvalConfig = EvalConfig()

    @field_validator("plugins", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return comma_separated(value) or ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        train = self.train
        completions = train.questions_per_step * self.rollout.num_generations
        if completions > MOST_COMPLETIONS:
            raise ValueError(
                f"train.questions_per_step × rollout.num_generations is {completions:,} completions a step, which no "
                f"memory holds; at most {MOST_COMPLETIONS:,}"
            )
        if train.questions_per_update and train.questions_per_step % train.questions_per_update:
            raise ValueError(
                f"train.questions_per_update ({train.questions_per_update}) must divide "
                f"train.questions_per_step ({train.questions_per_step})"
            )
        if not (train.eval_steps and self.data.held_out_sets):
            lacking = "data.eval is null" if train.eval_steps else "train.eval_steps is 0"
            if train.keep_best:
                raise ValueError(f"train.keep_best: {lacking}, so nothing tells which checkpoint is the best")
            if train.patience:
                raise ValueError(f"train.patience: {lacking}, so nothing tells whether the run goes on getting better")
        self.verify.check()
        if self.rollout.vllm.adapter_only and self.model.lora.r is None:
            raise ValueError("rollout.vllm.adapter_only: there is no adapter; set model.lora.r, or leave it out")
        if self.method.solved_at != SOLVED_AT and not (self.verify.reward_function or self.verify.reward_functions):
            raise ValueError(
                "method.solved_at: the verifier's rewards are 0 and 1; it is for those of verify.reward_function"
            )
        longest = self.data.max_prompt_length + max(self.rollout.max_completion_length, self.held_out_completion_length)
        if self.rollout.max_concurrent_tokens < longest:
            raise ValueError(
                f"rollout.max_concurrent_tokens ({self.rollout.max_concurrent_tokens}) must hold one prompt with its "
                f"completion: at least {longest}"
            )
        return self

    @property
    def max_demonstration_length(self) -> int:
        """In tokens."""
        return self.data.max_demonstration_length or self.rollout.max_completion_length

    @property
    def held_out_generations(self) -> int:
        """Samples of each held-out problem."""
        return self.eval.num_generations or 1

    @property
    def held_out_completion_length(self) -> int:
        """In tokens."""
        return self.eval.max_completion_length or self.rollout.max_completion_length

    @property
    def held_out_seed(self) -> int:
        return self.train.seed if self.eval.seed is None else self.eval.seed

    def dump(self) -> str:
        """The whole tree as YAML, every key written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def current_config() -> type[Config]:
    """`Config`, with keys for the options of what plugins have registered by now."""
    more = [option.name for option in all_options() if option.name not in AlgorithmConfig.model_fields]
    return _extended((*more, *METHOD_OPTIONS)) if more or METHOD_OPTIONS else Config


@cache
def _extended(names: tuple[str, ...]) -> type[Config]:
    # One class for each set of names: pydantic compares configurations by their classes, too.
    algorithm = algorithm_section()
    method = with_options(MethodConfig, "MethodConfig", METHOD_OPTIONS.values())
    return create_model("Config", __base__=Config, algorithm=(algorithm, algorithm()), method=(method, method()))
