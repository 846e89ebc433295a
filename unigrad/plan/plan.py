"""`unigrad train --plan`: what a run would be and need, before anything is downloaded or built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel

from unigrad.config import Config
from unigrad.data.rows import SUFFIXES
from unigrad.hybrid import Objective
from unigrad.plan.memory import FLOAT32, PHASES, Part, memory, peak
from unigrad.policy.adapter import adapter_size
from unigrad.policy.architecture import Dimensions, dimensions
from unigrad.rollout.engines import expected_engine

MIB, GIB, GB = 2**20, 2**30, 10**9
CARDS = {24: 23.5, 40: 39.4, 80: 79.1, 141: 139.8}
"""GPUs by the size on their box, GB, and what a program finds there, GiB."""
RANKS = (1, 8, 64)
"""How many GPUs a plan compares."""
TEXT_BYTES = 4
"""Of a token in `rollouts/`, about."""
GATED = "meta-llama/"
"""Whose models the hub gives only to those who have accepted their licence."""


def plan_lines(config: Config, stages: Sequence[Objective], skeleton: PreTrainedModel, found: str) -> list[str]:
    """The plan of a run on one CUDA GPU. found: where the model's architecture was found, in words."""
    model = dimensions(skeleton)
    lora = config.model.lora
    adapter = None if lora.r is None else adapter_size(skeleton, lora)
    needs = frozenset[str]().union(*(stage.needs for stage in stages))
    parts_on = partial(
        memory,
        config,
        model,
        samples=any(stage.samples for stage in stages),
        reference="reference_logp" in needs,
        value_head="values" in needs,
        compute_size=FLOAT32 if config.model.dtype == "float32" else 2,
        adapter=adapter,
    )
    parts = parts_on()
    return [
        f"model: {config.model.name_or_path} (known from {found}), {skeleton.config.model_type}, "
        f"{model.layers} layers, {model.parameters:,} parameters"
        + ("" if adapter is None else f"; its adapter, of {adapter:,}, is trained"),
        *_table(parts),
        *_table_of_ranks({ranks: parts_on(ranks=ranks) for ranks in RANKS}),
        *_work(config, stages),
        "needs:",
        *(f"  {line}" for line in _needs(config, stages, skeleton, model, adapter, parts)),
    ]


def _row(name: str, cells: Sequence[str]) -> str:
    return f"  {name:<64}{''.join(f'{cell:>10}' for cell in cells)}".rstrip()


def _table(parts: list[Part]) -> Iterator[str]:
    name, unit = _unit(parts)
    yield _row(f"memory of one GPU, {name}", PHASES)
    for part in parts:
        cells = [f"{part.size / unit:.2f}" if phase in part.phases else "" for phase in PHASES]
        yield _row(part.name + (" (estimate)" if part.estimate else ""), cells)
    yield _row("together", [f"{peak(parts, phase) / unit:.2f}" for phase in PHASES])


def _table_of_ranks(by_ranks: Mapping[int, list[Part]]) -> Iterator[str]:
    """What each GPU holds where several train together (`torchrun --nproc-per-node N -m unigrad train`)."""
    name, unit = _unit(by_ranks[1])
    yield _row(f"memory of each of several GPUs, {name}", PHASES)
    for ranks, parts in by_ranks.items():
        cells = [f"{peak(parts, phase) / unit:.2f}" for phase in PHASES]
        needed = max(peak(parts, phase) for phase in PHASES) / GIB
        fits = next((f"fits {card} GB" for card, there in CARDS.items() if needed <= there), "fits none")
        yield _row(f"{ranks} GPU{'s' * (ranks > 1)}: {fits}", cells)


def _unit(parts: Sequence[Part]) -> tuple[str, int]:
    return ("GiB", GIB) if parts[0].size >= GIB / 4 else ("MiB", MIB)


def _work(config: Config, stages: Sequence[Objective]) -> Iterator[str]:
    """What a step of each stage and the whole run come to; tokens are upper bounds, prompts not among them."""
    train, questions = config.train, config.train.questions_per_step
    updates = train.num_iterations * questions // (train.questions_per_update or questions)
    ends = [round(stage.until * train.max_steps) for stage in stages]
    totals = (0, 0, 0)
    for begin, end, stage in zip([0, *ends], ends, stages, strict=False):
        n, sampled, trained = _of_a_question(config, stage)
        work = (questions * n, questions * sampled, questions * trained * train.num_iterations)
        steps = end - begin
        totals = (totals[0] + steps * work[0], totals[1] + steps * work[1], totals[2] + steps * work[2])
        name = "a step" if len(stages) == 1 else f"a step from {begin + 1} to {end}"
        yield f"{name}: {_counts(questions, updates, *work)}"
    limit = f", or until {train.max_tokens:,} tokens" if train.max_tokens else ""
    steps = train.max_steps
    yield f"the run: {steps:,} steps{limit}, {_counts(steps * questions, steps * updates, *totals)}"
    yield f"prompts take up to {config.data.max_prompt_length:,} tokens more each"


def _counts(questions: int, updates: int, completions: int, sampled: int, trained: int) -> str:
    return (
        f"{questions:,} questions, {completions:,} completions, {updates:,} update{'s' * (updates > 1)}; "
        f"at most {sampled:,} tokens sampled and {trained:,} trained"
    )


def _of_a_question(config: Config, stage: Objective) -> tuple[int, int, int]:
    """Completions, tokens sampled, and tokens that train at most, whatever the gate decides."""
    n = config.rollout.num_generations if stage.samples else 0
    sampled = n * config.rollout.max_completion_length
    members = {term.members for term in stage.training(n)}
    rollouts = sampled if members - {"demonstrations"} else 0
    demonstration = config.max_demonstration_length if members - {"rollouts"} else 0
    return n, sampled, rollouts + demonstration


def _needs(
    config: Config,
    stages: Sequence[Objective],
    skeleton: PreTrainedModel,
    model: Dimensions,
    adapter: int | None,
    parts: list[Part],
) -> Iterator[str]:
    needed = max(peak(parts, phase) for phase in PHASES) / GIB
    fits = [card for card, memory_there in CARDS.items() if needed <= memory_there]
    others = [card for card in CARDS if card not in fits]
    yield f"one GPU of at least {needed:.1f} GiB: it " + "; it ".join(
        f"{verb} {', '.join(map(str, cards))} GB" for verb, cards in (("fits", fits), ("does not fit", others)) if cards
    )
    if engine := _engine(config, stages, skeleton):
        yield engine
    weights = FLOAT32 * model.parameters
    trained = weights if adapter is None else FLOAT32 * adapter
    yield f"main memory of about {weights / GIB:.1f} GiB, through which the weights are loaded"
    yield f"disk: {', '.join(_disk(config, stages, weights, trained))}"
    yield from _downloads(config, skeleton.config, model)


def _engine(config: Config, stages: Sequence[Objective], skeleton: PreTrainedModel) -> str | None:
    """Which engine samples from this model where it is not the one at hand, or where it does, or why none can, as far
    as the architecture says."""
    evaluates = config.data.eval is not None and config.train.eval_steps > 0
    if not (evaluates or any(stage.samples for stage in stages)):
        return None
    if config.rollout.vllm.server is not None:
        return f"no vLLM on this GPU: {config.rollout.vllm.server} samples, and needs one of its own"
    try:
        _, fallback = expected_engine(config.rollout.engine, skeleton)
    except ValueError as error:
        return f"another model, or SFT without evaluations (train.eval_steps 0): {error}"
    return fallback and f"rollout.engine: {fallback}"


def _disk(config: Config, stages: Sequence[Objective], weights: int, trained: int) -> Iterator[str]:
    train = config.train
    saves = -(-train.max_steps // train.save_steps) if train.save_steps else 0
    if train.keep_best:
        saves += -(-train.max_steps // train.eval_steps)
    if saves:
        # The oldest goes once the new one is complete.
        limit = train.save_total_limit
        kept = saves if limit is None else min(saves, limit + 1 + train.keep_best)
        yield f"{3 * trained / GB:.2f} GB a checkpoint, up to {kept} at once"
    yield f"{weights / GB:.2f} GB the final model"
    if any(stage.samples for stage in stages):
        tokens = config.data.max_prompt_length + config.rollout.max_completion_length
        rows = train.max_steps * train.questions_per_step * config.rollout.num_generations
        yield f"rollouts of at most about {rows * tokens * TEXT_BYTES / GB:.2f} GB"


def _downloads(config: Config, architecture: PreTrainedConfig, model: Dimensions) -> Iterator[str]:
    """From the hub, unless its cache has them."""
    name = config.model.name_or_path
    if name != "tiny" and _is_hub_id(name):
        size = (architecture.dtype.itemsize if architecture.dtype else FLOAT32) * model.parameters
        yield f"the model {name} from the hub, {size / GB:.2f} GB"
        if name.startswith(GATED):
            yield f"a hub token (HF_TOKEN, or hf auth login) of an account that has accepted the licence of {name}"
    sources = [each.path for each in config.data.train_sets]
    if config.train.eval_steps:
        sources += [each.path for each in config.data.held_out_sets]
    for source in dict.fromkeys(sources):
        if _is_hub_id(source):
            yield f"the data set {source} from the hub"


def _is_hub_id(source: str) -> bool:
    if Path(source).expanduser().exists() or source.endswith(SUFFIXES):
        return False
    return re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", source) is not None
