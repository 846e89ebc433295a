"""A first rollout of a few tokens, compared with the policy: what the engine cannot do shows before a run begins."""

from __future__ import annotations

import torch

from unigrad.batch import Sequences, micro_batch_of
from unigrad.errors import one_line
from unigrad.policy import Policy, TokenStatistics, transformers_api
from unigrad.rollout.engine import Engine, EngineError, Prompt
from unigrad.rollout.generate_engine import GenerateEngine, cannot_generate
from unigrad.rollout.sampling import Sampling
from unigrad.rollout.torch_engine import TorchEngine, cannot_run

# Prompts of unequal length share the batch, and a group its prompt.
_PROMPT_LENGTHS, _SAMPLES, _COMPLETION = (2, 7), 2, 4
_WIDEST_TRIED = 256
"""A window of no more positions than this is tried with a prompt that is longer."""
_TOLERANCE = 512
"""Roundings of the compute type, in proportion to the largest log-prob: two orders of summation, some dozen layers, and
activations of first tokens that are some thousand times the others' (SmolLM2's log-probs are at most 220 apart)."""


def check_torch_engine(policy: Policy, compute_dtype: torch.dtype | None = None) -> None:
    """Raises ValueError, one line, where the torch engine fails on the policy's model or gives other log-probs.

    compute_dtype: in which the engine computes; None: as the policy does.
    """
    _check(policy, TorchEngine, cannot_run(policy.model), compute_dtype or policy.compute_dtype)


def check_generate_engine(policy: Policy) -> None:
    """Raises ValueError, one line, where the generate engine fails on the policy's model or gives other log-probs."""
    _check(policy, GenerateEngine, cannot_generate(policy.model), policy.compute_dtype)


def _check(
    policy: Policy, kind: type[TorchEngine] | type[GenerateEngine], cannot: str, compute_dtype: torch.dtype
) -> None:
    lengths = _prompt_lengths(policy)
    room = len(lengths) * _SAMPLES * (max(lengths) + _COMPLETION)
    engine = kind(policy.model, policy.tokenizer, max_concurrent_tokens=room, compute_dtype=compute_dtype)
    rounding = max(torch.finfo(dtype).eps for dtype in (compute_dtype, policy.compute_dtype))
    check_log_probs(engine, policy, cannot, rounding)


def check_log_probs(engine: Engine, policy: Policy, cannot: str, rounding: float) -> None:
    """Raises ValueError, one line that begins with `cannot`, where the engine fails on a few tokens or gives other
    log-probs than the policy, up to some tens of this relative rounding. A model of too few positions is not tried."""
    lengths = _prompt_lengths(policy)
    if policy.max_positions is not None and policy.max_positions < max(lengths) + _COMPLETION:
        return
    vocabulary = policy.model.get_input_embeddings().weight.shape[0]
    prompts = [Prompt(str(length), tuple(i % vocabulary for i in range(3, 3 + length))) for length in lengths]
    sampling = Sampling(num_generations=_SAMPLES, max_completion_length=_COMPLETION)
    try:
        groups = engine.generate(prompts, sampling, seed=0)
    except EngineError:
        raise
    # An architecture that the engine does not know may fail at any line of its own.
    except Exception as error:
        raise ValueError(f"{cannot}: {one_line(error)}") from error
    completions = [(prompt.token_ids, each) for prompt, group in zip(prompts, groups, strict=True) for each in group]
    rows = [(prompt_ids, each.token_ids) for prompt_ids, each in completions]
    batch = micro_batch_of(Sequences.of_ids(rows, [1.0] * len(rows)), [range(len(rows))], "padded")
    with torch.no_grad():
        statistics: TokenStatistics = policy(batch.to(policy.device, policy.dtype))
    sampled = [value for index in batch.indices_P.tolist() for value in completions[index][1].logprobs]
    expected_M = statistics.logp_M.cpu().double()
    difference = (torch.tensor(sampled, dtype=torch.float64) - expected_M).abs().max().item()
    if not difference <= _TOLERANCE * rounding * (1 + expected_M.abs().max().item()):
        raise ValueError(f"{cannot}: its log-probs differ by {difference:.2g} from those that would be trained on")


def _prompt_lengths(policy: Policy) -> tuple[int, int]:
    """Such that a narrow window binds, as early in the longer prompt as in its completion."""
    short, long = _PROMPT_LENGTHS
    try:
        reaches = transformers_api.reaches(policy.model).values()
    # The engine says what is wrong with it.
    except ValueError:
        return short, long
    binding = max((each.window + short for each in reaches if each.window and each.window <= _WIDEST_TRIED), default=0)
    room = binding if policy.max_positions is None else policy.max_positions - _COMPLETION
    return short, max(long, min(binding, room))
