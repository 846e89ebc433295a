"""What scores a run's completions, as the section `verify` says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack

from unigrad.config import Config
from unigrad.machine import launched
from unigrad.options import VERIFIER
from unigrad.types import Scorer, TrainerState
from unigrad.verify import (
    RewardFunction,
    RewardFunctionScorer,
    UnsolvedWarning,
    Verifier,
    VerifierScorer,
    WeightedScorer,
    function_name,
    load_reward_function,
)
from unigrad.verify.kept import KeptVerdicts


def build_scorer(
    config: Config,
    state: TrainerState,
    kept: KeptVerdicts,
    stack: ExitStack,
    say: Callable[[str], None],
    *,
    early_workers: bool,
) -> Scorer:
    """The verifier, or the user's reward functions, which are told of `state`; `stack` closes it.

    early_workers: the verifier's processes start now and not at its first check: they load their libraries while the
    model is loaded.

    Raises ValueError or UserCodeError as `load_reward_function` does.
    """
    verify, solved_at = config.verify, config.method.solved_at

    def verifier() -> Scorer:
        # Of the ranks on a machine each has its share of them.
        workers = verify.workers and max(1, verify.workers // launched().local_size)
        made = stack.enter_context(Verifier(verify.timeout_seconds, workers, no_box=verify.no_box, kept=kept))
        if early_workers:
            made.start_workers()
        return VerifierScorer(made)

    def users(function: RewardFunction) -> Scorer:
        return RewardFunctionScorer(
            function,
            solved_at=solved_at,
            state=state,
            calls=verify.reward_workers,
            timeout=verify.reward_timeout_seconds,
        )

    if verify.reward_function:
        return UnsolvedWarning(users(load_reward_function(verify.reward_function)), solved_at, say)
    if not verify.reward_functions:
        return verifier()
    functions = {path: load_reward_function(path) for path in verify.reward_functions if path != VERIFIER}
    met = Counter(map(function_name, functions.values()))
    met[VERIFIER] += VERIFIER in verify.reward_functions
    scorers: dict[str, Scorer] = {}
    for path in verify.reward_functions:
        if path == VERIFIER:
            scorers[path] = verifier()
        else:
            own = function_name(functions[path])
            # Two functions of one name are told apart by where they are.
            name = own if met[own] == 1 else path
            scorers[name] = users(functions[path])
    weights = verify.reward_weights or (1.0,) * len(scorers)
    parts = dict(zip(scorers, zip(scorers.values(), weights, strict=True), strict=True))
    return UnsolvedWarning(WeightedScorer(parts, solved_at=solved_at), solved_at, say)
