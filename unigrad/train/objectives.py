"""From the configuration's method and algorithm to what each stage of the run trains on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from unigrad.config import Config, ConfigError
from unigrad.estimator import Algorithm, algorithm
from unigrad.hybrid import Method, Objective, Stage, gate, method
from unigrad.hybrid.gates import GATES, gate_options

OWN_KEYS = ("name", "gate", "alpha", "beta", "selected_mean", "first_stage")
"""Keys of the section `method` that belong to no gate and no schedule."""


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
        on_policy, offline = _algorithms(config, stage)
        built.append(
            Objective(
                gate=gate(name, **of_gate),
                across=stage.across,
                schedule=stage.schedule(**of_schedule),
                on_policy=on_policy,
                offline=offline,
                alpha=config.method.alpha,
                beta=config.method.beta,
                selected_mean=config.method.selected_mean,
                samples=stage.samples,
                until=until,
            )
        )
    unused = sorted(given.keys() - taken)
    if unused:
        raise ConfigError(f"method.{unused[0]}: {_no_use(chosen, config.method.gate, unused[0])}")
    return built


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
    where = f"the gate{'s' * (len(gates) > 1)} {' and '.join(gates)}" if gates else "the method chord"
    return f"an option of {where}; {chosen.name} uses {gate_name or chosen.stages[0].gate}"


def _algorithms(config: Config, stage: Stage) -> tuple[Algorithm, tuple[tuple[Algorithm, float], ...]]:
    """The stage's on-policy algorithm, and the offline ones with their coefficients."""
    given = config.algorithm.model_dump(
        exclude={"name", "kl_reward_coefficient", "offline_aggregation"}, exclude_none=True
    )
    # A stage's options are those of its own algorithm; another one starts from its own defaults.
    own = stage.on_policy_options if config.algorithm.name is None else {}
    on_policy = algorithm(config.algorithm.name or stage.on_policy)
    offline = [(algorithm(term.algorithm), term.coefficient) for term in stage.offline]
    constant_length = {"constant_length": config.rollout.max_completion_length}
    averaged = config.algorithm.offline_aggregation
    of_offline = constant_length if averaged is None else {**constant_length, "aggregation": averaged}
    # An option that the on-policy algorithm lacks goes to the offline ones that have it.
    theirs = {key for key in given if key not in on_policy.defaults()}
    theirs = {key for key in theirs if any(key in each.defaults() for each, _ in offline)}
    ours = {key: value for key, value in given.items() if key not in theirs}
    return on_policy.with_options(**{**constant_length, **own, **ours}), tuple(
        (
            each.with_options(**of_offline, **{key: given[key] for key in theirs if key in each.defaults()}),
            coefficient,
        )
        for each, coefficient in offline
    )
