"""The run's configuration: one validated tree, read from a recipe or a YAML file, with dotted overrides on top.

Nothing here imports torch, so that `--help` and every usage error are instant.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from unigrad.types import NoBox

METHODS_KEY = "methods"
Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


CONFIG_FILE = "config.yaml"
"""A run's effective configuration, in its folder and in each of its checkpoints."""


class ConfigError(ValueError):
    """A usage or configuration error: one line saying what is wrong, where, and the nearest valid choice."""


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        protected_namespaces=(),
    )


class ModelConfig(Section):
    name_or_path: str = "tiny"
    """The policy to train: a hub id, a folder, a .gguf file, or `tiny`, the embedded base model"""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the forward pass; the trained weights stay float32. auto: bfloat16 on cuda, else float32"""
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


class ColumnsConfig(Section):
    id: str | None = None
    """Column of the problem's unique id; null: recognised by the ecosystem's names, else the row's number"""
    problem: str | None = None
    """Column of the question; null: problem, question, prompt, messages, …"""
    answer: str | None = None
    """Column of the gold answer; null: answer, final_answer, ground_truth, reward_model.ground_truth, …"""
    solution: str | None = None
    """Column of the demonstration; null: solution, demonstration, completion, target, …"""
    source: str | None = None
    """Column naming where a problem comes from; null: source, data_source, …"""
    level: str | None = None
    """Column of the difficulty; null: level, difficulty"""


class SourceConfig(Section):
    path: str
    """As data.train"""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often each of its problems is met an epoch: 2 is twice, 0.5 in every other epoch"""
    split: str | None = None
    """In place of data.train_split"""
    subset: str | None = None
    """In place of data.subset"""
    columns: ColumnsConfig = ColumnsConfig()
    """In place of those of data.columns"""


class DataConfig(Section):
    train: str | tuple[SourceConfig, ...] = "tiny"
    """Training problems: a file (.jsonl, .json, .csv, .parquet), folder, glob or hub dataset, or `tiny`, the embedded
    generator; or a list of them to be mixed, each alone or as {path: …, weight: 2, split: …, subset: …, columns: …}"""
    train_split: str = "train"
    """Split of a hub dataset to train on"""
    eval: str | None = "tiny"
    """Held-out problems, given like data.train; null: no evaluation"""
    eval_split: str = "test"
    """Split of a hub dataset to evaluate on"""
    subset: str | None = None
    """Configuration name of a hub dataset (`main` for openai/gsm8k)"""
    columns: ColumnsConfig = ColumnsConfig()
    prompt_template: str = "plain"
    """How a problem becomes a prompt: a template's name (listed below) or your own text holding {problem}"""
    max_prompt_length: Positive = 1024
    """Longer prompts (in tokens) are dropped and counted, never cut"""
    max_demonstration_length: Positive | None = None
    """Longer demonstrations (in tokens) are dropped and counted, never cut; null: rollout.max_completion_length"""
    max_train_problems: Positive | None = None
    """Use only the first so many training problems; null: all"""
    max_eval_problems: Positive | None = None
    """Evaluate on only the first so many held-out problems; null: all"""

    @field_validator("train", mode="before")
    @classmethod
    def _paths_alone(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if not value:
            raise ValueError("it names no problem set")
        return [{"path": item} if isinstance(item, str) else item for item in value]

    @property
    def train_sets(self) -> tuple[SourceConfig, ...]:
        return (SourceConfig(path=self.train),) if isinstance(self.train, str) else self.train


class TinyConfig(Section):
    train_problems: Positive = 2000
    """Problems the embedded generator makes for training"""
    eval_problems: Positive = 200
    """Problems the embedded generator makes for evaluation; disjoint from the training ones"""
    expert_error_rate: Share = 0.2
    """Share of the embedded demonstrations that hold a wrong step and so a wrong answer"""
    seed: int = 0
    """Seed of the embedded generator"""


class RolloutConfig(Section):
    engine: Literal["torch"] = "torch"
    """What samples the rollouts: torch, on the live policy"""
    num_generations: Positive = 8
    """Rollouts per question, the paper's n"""
    max_completion_length: Positive = 1024
    """Longest completion in tokens; longer ones are truncated"""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Sampling temperature; training uses the log-probs at this temperature"""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Nucleus sampling: the smallest set of tokens with this mass; 1: off"""
    top_k: NonNegative = 0
    """Sample among the k likeliest tokens; 0: off"""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end a completion, besides the end token; in evaluations of the run too"""
    max_concurrent_tokens: Positive = 65536
    """Tokens (prompts and completions) whose keys and values are held at once; waiting rows enter as others finish"""


class VerifyConfig(Section):
    timeout_seconds: Annotated[float, Field(gt=0)] = 1.0
    """Limit for one check, in seconds of a common server: counted in calls, so that no load changes a verdict"""
    workers: Positive = 2
    """Worker processes for the checks that need symbolic mathematics"""
    no_box: NoBox = "last_number"
    """What a completion without a box is: last_number reads its last number or option, wrong as for the authors"""
    reward_function: str | None = None
    """Your own reward, `package.module.function`, with TRL's signature f(prompts, completions, **columns)"""


class MethodConfig(Section):
    name: str = "hpt"
    """Which trajectories each question trains on, and how: a row of `unigrad algorithms --methods`"""
    gate: str | None = None
    """switch, drop, rollouts, demonstrations, both, linear or table: what decides; null: the method's own"""
    threshold: Annotated[float, Field(ge=0)] | None = None
    """Of switch and drop, γ: SFT where at most so many rollouts are solved (a count; below 1 a rate); null: its own"""
    table: tuple[tuple[float, ...], ...] | None = None
    """Of the gate table: [α, β] for 0, 1, … solved rollouts, the last for more; null: the method's own"""
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """The RL term is multiplied with this"""
    beta: Annotated[float, Field(ge=0)] = 1.0
    """The terms on demonstrations are multiplied with this (the authors' sft_loss_coef)"""
    selected_mean: bool = False
    """SFT is the mean over the demonstrations that train, as in the authors' code, not over all questions (Eq. 12)"""
    first_stage: Annotated[float, Field(gt=0, lt=1)] | None = None
    """sft_then_grpo: share of the run that its first stage takes; null: the method's own, a half"""
    mu_start: Share | None = None
    """chord: μ at the start"""
    mu_end: Share | None = None
    """chord: μ at the end of its fall"""
    mu_share: Share | None = None
    """chord: share of the run over which μ falls"""


class AlgorithmConfig(Section):
    """The on-policy algorithm and its options; null is the algorithm's own default (`unigrad algorithms --json`).

    An option that only the method's offline algorithm has goes there.
    """

    name: str | None = None
    """On-policy algorithm, a row of `unigrad algorithms`; null: the method's own"""
    aggregation: Literal["token_mean", "sequence_mean", "constant", "token_sum"] | None = None
    """How token losses are averaged"""
    offline_aggregation: Literal["token_mean", "sequence_mean", "constant", "token_sum"] | None = None
    """The same on demonstrations; null: the offline algorithm's own"""
    constant_length: Positive | None = None
    """The length that aggregation=constant divides by; null: rollout.max_completion_length"""
    clip_low: Annotated[float, Field(ge=0)] | None = None
    """A token of negative advantage stops training below the ratio 1 - clip_low"""
    clip_high: Annotated[float, Field(ge=0)] | None = None
    """A token of positive advantage stops training above the ratio 1 + clip_high (TRL's epsilon_high)"""
    dual_clip: Annotated[float, Field(gt=1)] | None = None
    """A token of negative advantage stops training above this ratio too (TRL's delta); null: never"""
    std_ddof: Literal[0, 1] | None = None
    """The group's standard deviation: 1 sample, 0 population"""
    std_epsilon: Annotated[float, Field(ge=0)] | None = None
    """Added to the group's standard deviation before dividing"""
    batch_statistics: Literal["rows", "tokens"] | None = None
    """reinforce_pp: batch mean and std over rows or over tokens"""
    normalise_std: bool | None = None
    """srft, luffy: divide by the std of rollouts and demonstrations; false only centres, as LUFFY's authors do"""
    shaping_gamma: Annotated[float, Field(gt=0)] | None = None
    """luffy: γ of the shaping π/(π + γ)"""
    sft_weight: Annotated[float, Field(ge=0)] | None = None
    """srft_sft: a demonstration's weight is this times exp(−its mean entropy)"""
    success_weight: Annotated[float, Field(ge=0)] | None = None
    """srft_rollouts: a solved rollout's weight is this times exp(its mean entropy)"""
    pass_k: Positive | None = None
    """pass_at_k: the k whose pass rate is maximised"""
    cap_low: Annotated[float, Field(ge=0)] | None = None
    """cispo: the ratio counts as at least 1 - cap_low"""
    cap_high: Annotated[float, Field(ge=0)] | None = None
    """cispo: the ratio counts as at most 1 + cap_high"""
    mask_low: Annotated[float, Field(ge=0)] | None = None
    """cispo: tokens of negative advantage below 1 - mask_low are masked; null: none"""
    mask_high: Annotated[float, Field(ge=0)] | None = None
    """cispo: tokens of positive advantage above 1 + mask_high are masked; null: none"""
    cov_share: Share | None = None
    """clip_cov: share of the tokens that are masked, drawn among those of high covariance"""
    cov_low: float | None = None
    """clip_cov: tokens of at least this covariance may be drawn"""
    cov_high: float | None = None
    """clip_cov: tokens of at most this covariance may be drawn"""
    cov_seed: int | None = None
    """clip_cov: seed of the draw"""
    kl_cov_share: Share | None = None
    """kl_cov: share of the tokens, of highest covariance, that are penalised"""
    kl_cov_coefficient: Annotated[float, Field(ge=0)] | None = None
    """kl_cov: coefficient of their penalty"""
    high_entropy_share: Share | None = None
    """Only this share of the tokens, of highest entropy, trains; null: all, but for high_entropy"""
    off_policy_delta: Annotated[float, Field(ge=0)] | None = None
    """Rows of negative advantage further than this mean KL from the policy are masked; null: none"""
    engine_cap: Annotated[float, Field(gt=0)] | None = None
    """Cap of the importance weight that corrects for the rollout engine's own log-probs; null: no correction"""
    gamma: Share | None = None
    """ppo: discount a token"""
    gae_lambda: Share | None = None
    """ppo: λ of generalised advantage estimation"""
    whiten: bool | None = None
    """ppo: standardise the advantages over the update's tokens"""
    dpo_beta: Annotated[float, Field(gt=0)] | None = None
    """dpo: β, how firmly the policy is held to the reference"""
    kl_coefficient: Annotated[float, Field(ge=0)] | None = None
    """Weight of a KL penalty against the initial model (TRL's beta); null or 0: none, and no second model"""
    kl_estimator: Literal["k1", "k2", "k3"] | None = None
    """Estimator of that KL"""
    kl_clamp: Annotated[float, Field(gt=0)] | None = None
    """Bound on the KL estimator, beyond which it has no gradient (verl: 10); null: none (TRL)"""
    trust_region: Annotated[float, Field(ge=0)] | None = None
    """λ of the trust region against the initial model (§B.2), a term of the advantage; null or 0: none"""
    kl_reward_coefficient: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the KL against the initial model in the reward, token by token; 0: none"""
    entropy_coefficient: Annotated[float, Field(ge=0)] | None = None
    """Weight of the entropy bonus"""


class ValueConfig(Section):
    """The value head of ppo."""

    clip: Annotated[float, Field(gt=0)] = 0.2
    """A value that moved further than this from its rollout's stops training"""
    coefficient: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the value loss"""


class TrainConfig(Section):
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
    questions_per_step: Positive = 128
    """Questions of one step; each gets rollout.num_generations rollouts"""
    questions_per_update: Positive | None = None
    """Questions of one optimizer update (a mini-batch of the step's rollouts); null: all of the step"""
    tokens_per_micro_batch: Positive = 16384
    """Tokens of one forward and backward pass, padding included; changes memory and speed, never the gradient"""
    seed: int = 0
    """Seed of the order of the problems and of every rollout"""
    save_steps: NonNegative = 50
    """A checkpoint every so many steps; 0: off"""
    save_total_limit: Positive | None = 2
    """Checkpoints kept; older ones go once a new one is complete; null: all"""
    eval_steps: NonNegative = 10
    """An evaluation every so many steps, and before the first and after the last; 0: off"""
    tensorboard: bool = True
    """Write TensorBoard event files beside metrics.jsonl"""
    wandb: bool = False
    """Log to Weights & Biases too (needs unigrad[wandb]; WANDB_MODE=offline stays on this machine)"""
    save_token_logprobs: bool = True
    """Write each token's text and log-prob into the rollout files, for `unigrad report`; about 13 bytes a token"""


class EvalConfig(Section):
    num_generations: Positive = 1
    """Samples per held-out problem; accuracy is their mean (avg@k)"""
    temperature: Annotated[float, Field(ge=0)] = 0.6
    """Sampling temperature of the evaluation; 0: greedy"""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Nucleus of the evaluation"""
    max_completion_length: Positive | None = None
    """Longest completion of the evaluation; null: rollout.max_completion_length"""


class Config(Section):
    """Everything a run depends on."""

    output_dir: str = "runs/unigrad"
    """The run's folder; it must not hold a run yet"""
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    tiny: TinyConfig = TinyConfig()
    rollout: RolloutConfig = RolloutConfig()
    verify: VerifyConfig = VerifyConfig()
    method: MethodConfig = MethodConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    value: ValueConfig = ValueConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        train = self.train
        if train.questions_per_update and train.questions_per_step % train.questions_per_update:
            raise ValueError(
                f"train.questions_per_update ({train.questions_per_update}) must divide "
                f"train.questions_per_step ({train.questions_per_step})"
            )
        longest = self.data.max_prompt_length + max(
            self.rollout.max_completion_length, self.eval.max_completion_length or 0
        )
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

    def dump(self) -> str:
        """The whole tree as YAML, every key written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

    def flat(self) -> dict[str, Any]:
        """Every key by its dotted name."""
        return dict(flatten(self.model_dump(mode="json")))


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def config_keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every dotted key with its field, in declaration order."""
    for name, info in model.model_fields.items():
        annotation = info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from config_keys(annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, info


RESUMABLE_CHANGES = (
    "output_dir",
    "train.save_steps",
    "train.save_total_limit",
    "train.eval_steps",
    "train.tensorboard",
    "train.wandb",
    "train.save_token_logprobs",
)
"""Keys that change nothing in the weights: a resumed run may set them anew, and a report takes no notice of them."""
OFFICIAL = "-official"


def recipe_names() -> list[str]:
    """The bundled recipes: every family, and every FAMILY-METHOD (before `-official`) of the methods that it tunes."""
    return sorted({*_bundled(), *_members()})


def recipe_families() -> dict[str, list[str]]:
    """Each bundled file, with the methods that make a recipe's name with it."""
    return {family: [method for of, method in _members().values() if of == family] for family in sorted(_bundled())}


def _bundled() -> dict[str, Traversable]:
    folder = resources.files("unigrad.recipes")
    return {entry.name.removesuffix(".yaml"): entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}


@cache
def _members() -> dict[str, tuple[str, str]]:
    """The family and the method of each composed name."""
    members = {}
    for family in _bundled():
        stem, suffix = family.removesuffix(OFFICIAL), OFFICIAL if family.endswith(OFFICIAL) else ""
        for method in _load_recipe(family).get(METHODS_KEY, {}):
            members[f"{stem}-{method}{suffix}"] = (family, method)
    return members


def load_config(recipe: str, overrides: Mapping[str, str] | None = None) -> Config:
    """The configuration of a bundled recipe or a YAML path, with dotted `overrides` (text, as from a command line).

    A recipe may name another as its `base` and hold only what differs; its section `methods` holds, by method.name,
    what changes under that method. Raises ConfigError, one line, on a missing or malformed recipe, an unknown key or a
    bad value.
    """
    tree = _load_recipe(recipe)
    methods = tree.pop(METHODS_KEY, {})
    chosen = (overrides or {}).get("method.name") or tree.get("method", {}).get("name")
    tree = _merge(tree, methods.get(chosen, {}))
    known = dict(config_keys())
    for key, text in (overrides or {}).items():
        if key not in known:
            raise ConfigError(f"unknown key {key!r}{_nearest_key(key)}")
        *sections, name = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = _parse(text, known[key])
    return _validate(tree, recipe)


def _load_recipe(recipe: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    if recipe in seen:
        raise ConfigError(f"recipe {recipe}: its base leads back to itself")
    is_path = recipe.endswith((".yaml", ".yml")) or "/" in recipe
    try:
        if is_path:
            text = Path(recipe).read_text(encoding="utf-8")
        elif recipe in _bundled():
            text = _bundled()[recipe].read_text(encoding="utf-8")
        elif recipe in _members():
            family, method = _members()[recipe]
            member = {"method": {"name": method}, "output_dir": f"runs/{recipe}"}
            return _merge(_load_recipe(family, (*seen, recipe)), member)
        else:
            names = recipe_names()
            close = difflib.get_close_matches(recipe, names, n=1, cutoff=0.4)
            tail = (
                f"did you mean {close[0]!r}?"
                if close
                else f"there are: {', '.join(sorted(_bundled()))}, or a path to a .yaml file"
            )
            raise ConfigError(f"unknown recipe {recipe!r}; {tail}")
    except UnicodeDecodeError as error:
        raise ConfigError(f"recipe {recipe} is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(
            f"cannot read recipe {recipe}: {error.strerror}; bundled: {', '.join(sorted(_bundled()))}"
        ) from None
    try:
        tree = yaml.safe_load(text) or {}
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"recipe {recipe}{where}: not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"recipe {recipe}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"recipe {recipe}: its top must be a mapping of sections, not {type(tree).__name__}")
    methods = tree.get(METHODS_KEY) or {}
    if not isinstance(methods, dict) or not all(isinstance(each, dict | types.NoneType) for each in methods.values()):
        raise ConfigError(f"recipe {recipe}: {METHODS_KEY} must map the names of methods to sections of keys")
    tree[METHODS_KEY] = {name: changes or {} for name, changes in methods.items()}
    base = tree.pop("base", None)
    if base is None:
        return tree
    if is_path and isinstance(base, str) and base.endswith((".yaml", ".yml")):
        base = str(Path(recipe).parent / base)
    inherited = _load_recipe(str(base), (*seen, recipe))
    # What a recipe says itself stands above whatever it inherits, also above what its base says of a method.
    methods = {name: _without(changes, tree) for name, changes in inherited.get(METHODS_KEY, {}).items()}
    return _merge({**inherited, METHODS_KEY: methods}, tree)


def _without(tree: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` less the keys that `said` holds too."""
    left = {}
    for key, value in tree.items():
        if isinstance(value, dict) and isinstance(said.get(key), dict):
            left[key] = _without(value, said[key])
        elif key not in said:
            left[key] = value
    return left


def _merge(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _validate(tree: Mapping[str, Any], where: str) -> Config:
    try:
        return Config.model_validate(tree)
    except ValidationError as errors:
        first = errors.errors()[0]
        # Of a value that may have several types, pydantic lists what is wrong with it as each: the deepest was meant.
        same = [each for each in errors.errors() if each["loc"][:2] == first["loc"][:2]]
        error = max(same, key=lambda each: len(each["loc"]))
        key = ".".join(
            str(part) for part in error["loc"] if isinstance(part, str) and part.isidentifier() and part != "str"
        )
        if error["type"] == "extra_forbidden":
            raise ConfigError(f"{where}: unknown key {key!r}{_nearest_key(key)}") from None
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "literal_error":
            expected = [
                choice.strip().strip("'") for choice in error["ctx"]["expected"].replace(" or ", ",").split(",")
            ]
            close = difflib.get_close_matches(str(error["input"]), expected, n=1, cutoff=0.0)
            message = f"must be one of {', '.join(expected)}; did you mean {close[0]!r}?"
        if not key:
            raise ConfigError(f"{where}: {message}") from None
        raise ConfigError(f"{where}: {key} = {error['input']!r}: {message[0].lower()}{message[1:]}") from None


def _nearest_key(key: str) -> str:
    keys = [name for name, _ in config_keys()]
    leaf = key.rsplit(".", 1)[-1]
    same_leaf = [name for name in keys if name.rsplit(".", 1)[-1] == leaf]
    close = same_leaf or difflib.get_close_matches(key, keys, n=1, cutoff=0.0)
    return f"; did you mean {close[0]!r}?"


def _parse(text: str, field: FieldInfo) -> Any:
    """A command line's text as a value: itself where a string is wanted, else YAML; `null` is None where allowed."""
    union = typing.get_origin(field.annotation) in (types.UnionType, typing.Union)
    members = typing.get_args(field.annotation) if union else (field.annotation,)
    if type(None) in members and text.lower() in ("null", "none"):
        return None
    is_list = text.startswith("[") and any("tuple" in str(member) for member in members)
    if str in members and not is_list:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def type_name(field: FieldInfo) -> str:
    """A field's type as `--help` shows it."""

    def name(annotation: Any) -> str:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return name(arguments[0])
        if origin is Literal:
            return "|".join(str(choice) for choice in arguments)
        if origin in (types.UnionType, typing.Union):
            return "|".join(name(member) for member in arguments)
        if origin is tuple:
            return f"[{name(arguments[0])}, …]"
        return "null" if annotation is type(None) else str(annotation.__name__)

    return name(field.annotation)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings by their dotted keys."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def changed_keys(before: Config, after: Config, ignoring: Sequence[str]) -> list[str]:
    """The dotted keys in which two configurations differ, but for those in `ignoring`."""
    old, new = before.flat(), after.flat()
    return [key for key in old if key not in ignoring and old[key] != new[key]]
