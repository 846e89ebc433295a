"""Every option of an algorithm, and of plugins' gates: its type, default, bounds and help, said once, without torch.

The parts of `unigrad.estimator` name their options by their keyword-only parameters and find the rest here, as do the
check of a value and the section `algorithm` of the configuration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Aggregation = Literal["token_mean", "sequence_mean", "constant", "token_sum"]
AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)
INFINITY = math.inf

SOLVED_AT = 1.0
"""The reward at which a completion counts as solved, unless `method.solved_at` says another."""
VERIFIER = "verify"
"""The verifier's name among `verify.reward_functions`."""
_TOLERANCE = 1e-6


def least_solved(solved_at: float = SOLVED_AT) -> float:
    """The least reward that counts as solved at `solved_at`: rounding, as in 0.7 + 0.2 + 0.1, takes nothing away."""
    return solved_at - _TOLERANCE * max(abs(solved_at), 1.0)


@dataclass(frozen=True)
class Option:
    """An option's declaration.

    type: int, float, bool, str or a Literal. default: None where None, which the option then takes too, means that
    nothing of the kind is there. minimum, above, maximum: a number's bounds; it must be finite unless `maximum` is
    `INFINITY`. Raises ValueError on another type.
    """

    name: str
    type: Any
    default: Any
    help: str
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        if self.type not in (int, float, bool, str) and get_origin(self.type) is not Literal:
            raise ValueError(f"option {self.name}: its type must be int, float, bool, str or a Literal")

    def fits(self, value: object) -> bool:
        """Whether the value is of the type and within the bounds; an integer is a number, a bool is neither."""
        if value is None:
            return self.default is None
        if get_origin(self.type) is Literal:
            return any(value == each and type(value) is type(each) for each in get_args(self.type))
        if self.type in (int, float):
            return isinstance(value, (int, self.type)) and not isinstance(value, bool) and self._bounds_hold(value)
        return isinstance(value, self.type)

    def _bounds_hold(self, value: float) -> bool:
        return (
            (not isinstance(value, int) or abs(value) < 2**63)
            and (self.minimum is None or value >= self.minimum)
            and (self.above is None or value > self.above)
            and (-math.inf < value < math.inf if self.maximum is None else value <= self.maximum)
        )

    @property
    def wanted(self) -> str:
        """The values other than None, in the words of an error message."""
        if get_origin(self.type) is Literal:
            return " or ".join(map(repr, get_args(self.type)))
        kind = {int: "an integer", float: "a number", bool: "True or False", str: "a text"}[self.type]
        bounds = {"of at least": self.minimum, "above": self.above, "of at most": self.maximum}
        said = [f"{words} {bound:g}" for words, bound in bounds.items() if bound not in (None, INFINITY)]
        return " ".join([kind, " and ".join(said).replace("and of", "and")]).strip()

    def check(self, value: object) -> None:
        """Raises ValueError, one line, on a value that does not fit."""
        if not self.fits(value):
            wanted = f"{self.wanted} or None" if self.default is None else self.wanted
            raise ValueError(f"option {self.name} must be {wanted}, not {value!r}")


# fmt: off
_BUILT_IN = (
    Option("aggregation", Aggregation, None, help="How token losses are averaged"),
    Option("constant_length", int, 1024, minimum=1,
           help="The length that aggregation=constant divides by; null: rollout.max_completion_length"),
    Option("clip_low", float, 0.2, minimum=0,
           help="A token of negative advantage stops training below the ratio 1 - clip_low"),
    Option("clip_high", float, 0.2, minimum=0, maximum=INFINITY,
           help="A token of positive advantage stops training above the ratio 1 + clip_high (TRL's epsilon_high)"),
    Option("dual_clip", float, None, above=1, maximum=INFINITY,
           help="A token of negative advantage stops training above this ratio too (TRL's delta); null: never"),
    Option("std_ddof", Literal[0, 1], 1, help="The group's standard deviation: 1 sample, 0 population"),
    Option("std_epsilon", float, 1e-6, minimum=0, help="Added to the group's standard deviation before dividing"),
    Option("std_over", Literal["group", "batch"], "group",
           help="The standard deviation to divide by: the group's or the whole batch's (TRL's scale_rewards)"),
    Option("normalise_std", bool, True,
           help="Divide by the group's standard deviation; false only centres (TRL's scale_rewards, LUFFY's authors)"),
    Option("normalise_advantages", bool, False,
           help="rloo: divide by the batch's standard deviation of the advantages (TRL)"),
    Option("batch_statistics", Literal["rows", "tokens"], "rows",
           help="reinforce_pp, reinforce_pp_baseline: batch mean and std over rows or over tokens (verl)"),
    Option("discount", float, None, minimum=0, maximum=1,
           help="reinforce_pp: γ of each token's own return (verl's gamma); null: a token has its row's reward"),
    Option("shaping", Literal["p_div_p", "no_reshape", "logp", "p_logp", "square_root", "pow"], "p_div_p",
           help="luffy: f of the shaping, by its authors' names (off_policy_reshape)"),
    Option("shaping_gamma", float, 0.1, above=0, help="luffy: γ of p_div_p, π/(π + γ)"),
    Option("shaping_weight", float, 0.1, above=0, help="luffy: w of logp, w·log π, and p_logp, π + w·log π"),
    Option("shaping_power", float, 0.5, above=0, help="luffy: e of pow, π^e"),
    Option("off_policy_max_clip", float, None, above=0, help="luffy: tokens above this f(π) are masked; null: none"),
    Option("off_policy_min_clip", float, None, above=0, help="luffy: tokens below this f(π) are masked; null: none"),
    Option("sft_weight", float, 0.5, minimum=0,
           help="srft_sft: a demonstration's weight is this times exp(−its mean entropy)"),
    Option("success_weight", float, 0.1, minimum=0,
           help="srft_rollouts: a solved rollout's weight is this times exp(its mean entropy)"),
    Option("pass_k", int, 4, minimum=1, help="pass_at_k: the k whose pass rate is maximised"),
    Option("cap_low", float, 1.0, minimum=0, help="cispo, dppo: the ratio counts as at least 1 - cap_low"),
    Option("cap_high", float, 0.28, minimum=0, maximum=INFINITY,
           help="cispo, dppo: the ratio counts as at most 1 + cap_high"),
    Option("divergence_low", float, 0.2, minimum=0, maximum=INFINITY,
           help="dppo: a token of negative advantage stops training once its divergence downwards is above this"),
    Option("divergence_high", float, 0.2, minimum=0, maximum=INFINITY,
           help="dppo: a token of positive advantage stops training once its divergence upwards is above this"),
    Option("log_clip_low", float, 0.4, minimum=0, maximum=INFINITY,
           help="gmpo: a token of negative advantage stops training below the log-ratio -log_clip_low"),
    Option("log_clip_high", float, 0.4, minimum=0, maximum=INFINITY,
           help="gmpo: a token of positive advantage stops training above the log-ratio log_clip_high"),
    Option("tau_pos", float, 1.0, above=0, help="sapo: temperature of the gate of a token of positive advantage"),
    Option("tau_neg", float, 1.05, above=0, help="sapo: temperature of the gate of another token"),
    Option("vespo_k_pos", float, 2.0, minimum=0, help="vespo: k of a row of advantage at least 0, in W^k·exp(λ(1−W))"),
    Option("vespo_lambda_pos", float, 3.0, minimum=0, help="vespo: λ of such a row"),
    Option("vespo_k_neg", float, 3.0, minimum=0, help="vespo: k of a row of negative advantage"),
    Option("vespo_lambda_neg", float, 2.0, minimum=0, help="vespo: λ of such a row"),
    Option("mask_low", float, None, minimum=0,
           help="cispo: tokens of negative advantage below 1 - mask_low are masked; null: none"),
    Option("mask_high", float, None, minimum=0, maximum=INFINITY,
           help="cispo: tokens of positive advantage above 1 + mask_high are masked; null: none"),
    Option("cov_share", float, 2e-4, minimum=0, maximum=1,
           help="clip_cov: share of the tokens that are masked, drawn among those of high covariance"),
    Option("cov_low", float, 1.0, minimum=0, help="clip_cov: tokens above this covariance may be drawn"),
    Option("cov_high", float, 5.0, minimum=0, maximum=INFINITY,
           help="clip_cov: tokens below this covariance may be drawn"),
    Option("cov_seed", int, 0, minimum=0, maximum=2**63 - 1, help="clip_cov: seed of the draw"),
    Option("kl_cov_share", float, 2e-4, minimum=0, maximum=1,
           help="kl_cov: share of the tokens, of highest covariance, that are penalised"),
    Option("kl_cov_coefficient", float, 1.0, minimum=0, help="kl_cov: coefficient of their penalty"),
    Option("high_entropy_share", float, None, minimum=0, maximum=1,
           help="Only this share of the tokens, of highest entropy, trains; null: all, but for high_entropy"),
    Option("off_policy_delta", float, None, minimum=0, maximum=INFINITY,
           help="Rows of negative advantage further than this mean KL from the policy are masked; null: none"),
    Option("engine_cap", float, None, above=0, maximum=INFINITY,
           help="Cap of the importance weight that corrects for the rollout engine's own log-probs; "
                "null: no correction, but 2 with rollout.decode_dtype and rollout.engine = vllm"),
    Option("engine_correction", Literal["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"],
           "token_truncate",
           help="What that weight is of, a token or its whole rollout, and whether one above engine_cap counts as the "
                "cap or does not train (TRL's vllm_importance_sampling_mode)"),
    Option("gamma", float, 1.0, minimum=0, maximum=1, help="ppo: discount a token"),
    Option("gae_lambda", float, 0.95, minimum=0, maximum=1, help="ppo: λ of generalised advantage estimation"),
    Option("whiten", bool, False, help="ppo: standardise the advantages over the update's tokens"),
    Option("dpo_beta", float, 0.1, above=0, help="dpo: β, how firmly the policy is held to the reference"),
    Option("kl_coefficient", float, 0.0, minimum=0,
           help="Weight of a KL penalty against the initial model (TRL's beta); null or 0: none, and no second model"),
    Option("kl_estimator", Literal["k1", "k2", "k3", "abs"], "k3",
           help="Estimator of that KL; in verl kl, mse (and k3+), low_var_kl, abs"),
    Option("kl_correction", bool, False,
           help="Multiply that estimate with π_θ/π_old (DeepSeek-V3.2; TRL's use_bias_correction_kl)"),
    Option("kl_clamp", float, None, above=0, maximum=INFINITY,
           help="Bound on the KL estimator, beyond which it has no gradient (verl: 10); null: none (TRL)"),
    Option("trust_region", float, 0.0, minimum=0,
           help="λ of the trust region against the initial model (§B.2), a term of the advantage; null or 0: none"),
    Option("entropy_coefficient", float, 0.0, minimum=0, help="Weight of the entropy bonus"),
)
# fmt: on
_options = {option.name: option for option in _BUILT_IN}


METHOD_OPTIONS: dict[str, Option] = {}
"""Of the gates that plugins register: further keys of the section `method`."""


def of_parameter(function: Callable[..., Any], parameter: Parameter) -> Option:
    """What a function's parameter with a default declares, without bounds and help."""
    hint = get_type_hints(function).get(parameter.name, type(parameter.default))
    if get_origin(hint) in (UnionType, Union):
        kinds = [each for each in get_args(hint) if each is not NoneType]
        hint = kinds[0] if len(kinds) == 1 else hint
    return Option(parameter.name, hint, parameter.default, help="")


def all_options() -> tuple[Option, ...]:
    """Every option there is: the built-in ones, then those of registered algorithms, in the order of their coming."""
    return tuple(_options.values())


def named(name: str) -> Option | None:
    return _options.get(name)


def add(options: Iterable[Option]) -> None:
    """Add options, but for those that are there already. Raises ValueError where another one has that name."""
    _options.update(joined(_options, options))


def joined(known: Mapping[str, Option], more: Iterable[Option]) -> dict[str, Option]:
    """Both by name, the first of a name standing. Raises ValueError on two of another type or default."""
    together = dict(known)
    for option in more:
        first = together.setdefault(option.name, option)
        if (first.type, first.default) != (option.type, option.default):
            raise ValueError(
                f"option {option.name} is there already, {first.wanted} and {first.default!r} by default; "
                "give the other one another name"
            )
    return together
