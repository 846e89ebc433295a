"""From the configuration's method and algorithm to what each stage of the run trains on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from unigrad.config import Config
from unigrad.errors import ConfigError
from unigrad.hybrid import Method, Objective, Stage, Term, averaged_alike, gate, method
from unigrad.hybrid.gates import GATES, gate_options

OWN_KEYS = (
    "name",
    "gate",
    "solved_at",
    "alpha",
    "beta",
    "selected_mean",
    "lone_demonstration",
    "first_stage",
)
"""Keys of the section `method` that belong to no gate and no schedule."""
HOLDING = {"kl_coefficient", "kl_estimator", "kl_clamp", "trust_region"}
"""Options that hold the policy to the reference model."""

DECODING_CAP = 2.0
"""`algorithm.engine_cap` with `rollout.decode_dtype` and vLLM, where null (the cap of TRL's and verl's recipes)."""


def objectives(config: Config) -> list[Objective]:
    """The stages of the run, in their order. Raises ConfigError or ValueError on names and options that do not fit."""
    chosen = method(config.method.name)
    given = config.method.model_dump(exclude=set(OWN_KEYS), exclude_none=True)
    taken: set[str] = set()
    built = []
    until = 0.0
    for stage, share in zip(chosen.stages, _shares(chosen, config.method.first_stage), strict=True):
        until += share
        name = config.method.gate or stage.gate
        of_gate, of_schedule = _options(name, stage, given)
        taken |= given.keys() & (of_gate.keys() | of_schedule.keys())
        built.append(
            Objective(
                gate=gate(name, **of_gate),
                across=stage.across,
                schedule=stage.schedule(**of_schedule),
                terms=_corrected(config, _terms(config, stage)),
                alpha=config.method.alpha,
                beta=config.method.beta,
                samples=stage.samples,
                until=until,
            )
        )
    unused = sorted(given.keys() - taken)
    if unused:
        raise ConfigError(f"method.{unused[0]}: {_no_use(chosen, config.method.gate, unused[0])}")
    _check_read(config, built)
    return [_with_kl_in_reward(stage, config.algorithm.kl_reward_coefficient) for stage in built]


def _corrected(config: Config, terms: tuple[Term, ...]) -> tuple[Term, ...]:
    """What trains on rollouts is weighed for an engine that is known not to be exact, unless a cap is given."""
    if not config.rollout.is_corrected:
        return terms
    return tuple(
        term.with_options(engine_cap=DECODING_CAP)
        if term.members != "demonstrations" and term.algorithm.defaults().get("engine_cap", DECODING_CAP) is None
        else term
        for term in terms
    )


def _with_kl_in_reward(stage: Objective, coefficient: float) -> Objective:
    return replace(stage, kl_reward_coefficient=coefficient) if stage.reads_rewards else stage


def _check_read(config: Config, stages: Sequence[Objective]) -> None:
    """Raises ConfigError on an option of the section `algorithm` that no active part of any term reads."""
    terms = [term for stage in stages for term in stage.terms]
    named = config.method.name
    if config.algorithm.kl_reward_coefficient and not any(stage.reads_rewards for stage in stages):
        names = " and ".join(dict.fromkeys(term.name for stage in stages for term in stage.training(1)))
        raise ConfigError(
            f"algorithm.kl_reward_coefficient: nothing in {named} reads how large a reward is ({names}); "
            "the nearest that acts is algorithm.kl_coefficient"
        )
    for option in _given(config):
        having = [term.algorithm for term in terms if option in term.options]
        keeping = [each.kept_unread(option) for each in having]
        if keeping and all(keeping):
            value = having[0].defaults()[str(keeping[0])]
            raise ConfigError(
                f"algorithm.{option}: nothing in {named} reads it while algorithm.{keeping[0]} is {_said(value)}; "
                f"set algorithm.{keeping[0]} or leave it out"
            )


def _said(value: Any) -> str:
    """A value as a recipe has it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _given(config: Config) -> dict[str, Any]:
    """The options that the section `algorithm` sets."""
    return config.algorithm.model_dump(
        exclude={"name", "offline_name", "kl_reward_coefficient", "offline_aggregation"}, exclude_none=True
    )


def _shares(chosen: Method, first_stage: float | None) -> list[float]:
    """Each stage's share of the run."""
    shares = [stage.share for stage in chosen.stages]
    if first_stage is None:
        return shares
    if len(shares) == 1:
        raise ConfigError(f"method.first_stage: {chosen.name} has one stage; sft_then_grpo has two")
    left = (1 - first_stage) / sum(shares[1:])
    return [first_stage, *(share * left for share in shares[1:])]


def _options(gate_name: str, stage: Stage, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the stage's gate and of its schedule: the method's own, then the configuration's."""
    # Another gate than the method's starts from its own defaults.
    own = stage.gate_options if gate_name == stage.gate else {}
    for_gate = gate_options(gate_name) if gate_name in GATES else frozenset()
    for_schedule = inspect.signature(stage.schedule).parameters
    return (
        {**own, **{key: value for key, value in given.items() if key in for_gate}},
        {key: value for key, value in given.items() if key in for_schedule},
    )


def _no_use(chosen: Method, gate_name: str | None, option: str) -> str:
    gates = [name for name in GATES if option in gate_options(name)]
    where = f"the gate{'s' * (len(gates) > 1)} {' and '.join(gates)}" if gates else "the method chord_mu"
    return f"an option of {where}; {chosen.name} uses {gate_name or chosen.stages[0].gate}"


def _terms(config: Config, stage: Stage) -> tuple[Term, ...]:
    """The stage's terms, with the options of the section `algorithm`.

    An option is the first term's; one that it lacks goes to the others that have it, and one that makes advantages to
    those, too, that compare in the same group. What holds to the reference goes to the others where the first is never
    sampled for.
    """
    given = _given(config)
    length = {"constant_length": config.rollout.max_completion_length}
    averaged = config.algorithm.offline_aggregation
    first, *others = _renamed(config, stage)
    ours = first.algorithm.defaults()
    built, reached = [], set[str]()
    for term in others:
        has = term.algorithm.defaults()
        shared = {*term.algorithm.advantage.options} if term.compared == first.compared else set[str]()
        shared |= set() if stage.samples else HOLDING
        theirs = {key: value for key, value in given.items() if key in has and (key not in ours or key in shared)}
        reached |= theirs.keys() - ours.keys()
        mean = config.method.selected_mean and term.compared == "demonstrations"
        lone = config.method.lone_demonstration and term.compared == "both"
        built.append(replace(term.with_options(**length, **theirs), selected_mean=mean, lone=lone))
    if config.method.lone_demonstration and not any(term.lone for term in built):
        raise ConfigError(
            f"method.lone_demonstration: {config.method.name} compares no demonstration with rollouts, "
            "as off_on and mix_on do"
        )
    own = {key: value for key, value in given.items() if key not in reached}
    first = replace(first, options={**length, **first.options, **own})
    _ = first.algorithm  # names what it lacks
    terms = averaged_alike((first, *built))
    if averaged is None:
        return terms
    if all(term.compared == "both" for term in built):
        raise ConfigError(
            f"algorithm.offline_aggregation: in {config.method.name} a demonstration is averaged as one of its group; "
            "use algorithm.aggregation"
        )
    return (
        terms[0],
        *(term if term.compared == "both" else term.with_options(aggregation=averaged) for term in terms[1:]),
    )


def _renamed(config: Config, stage: Stage) -> tuple[Term, ...]:
    """The stage's terms under the algorithms that the configuration names.

    A stage's options are those of its own algorithm; another one starts from its own defaults.
    """
    name, offline = config.algorithm.name, config.algorithm.offline_name
    first, *others = stage.terms
    if name is not None:
        first = replace(first, name=name, options={})
    if offline is None:
        return (first, *others)
    if not any(term.compared == "both" for term in others):
        raise ConfigError(
            f"algorithm.offline_name: {config.method.name} compares no demonstration with rollouts, as luffy does"
        )
    return (first, *(replace(term, name=offline, options={}) if term.compared == "both" else term for term in others))
