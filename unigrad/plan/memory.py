"""What a run keeps in the memory of a GPU, part by part, from its configuration and the model's dimensions alone.

Bytes throughout. c is the size of an element of the forward pass: 2 in bfloat16, 4 in float32. N ranks train.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unigrad.config import VLLM, Config
from unigrad.policy.architecture import Dimensions

Phase = Literal["sampling", "training", "update"]
PHASES: tuple[Phase, ...] = ("sampling", "training", "update")
FLOAT32 = 4
LOGPROB_CHUNK = LOGPROBS_KEPT = 2**28
"""Of `unigrad.policy.token_logprobs`: the logits that exist at a time, and what may be kept of all of them."""
SAMPLER_PART = 2**24
"""Logits that the sampler works on at a time."""
CONTEXT = 2**30
"""What CUDA itself and the allocator's rounding take."""


@dataclass(frozen=True, slots=True)
class Part:
    """Memory of one kind, and the phases of a step in which it is held. estimate: measured to agree, not counted."""

    name: str
    size: int
    phases: tuple[Phase, ...]
    estimate: bool = False


def memory(
    config: Config,
    model: Dimensions,
    *,
    samples: bool,
    reference: bool,
    value_head: bool,
    compute_size: int,
    adapter: int | None = None,
    ranks: int = 1,
) -> list[Part]:
    """The parts of a run on each of N GPUs, a rank a GPU. compute_size: c. adapter: the parameters of the one that is
    trained in the model's place, and without which the model is the reference; None where the model itself is
    trained."""
    added = (adapter or 0) + (model.hidden + 1 if value_head else 0)
    weights = model.parameters + added
    trained = weights if adapter is None else added
    generates = samples or bool(config.data.eval and config.train.eval_steps)
    own_engine = generates and config.rollout.engine != VLLM
    tokens = micro_batch_tokens(config, samples=samples, ranks=ranks)
    frozen = adapter is not None
    checkpointing = config.model.gradient_checkpointing
    is_sharded = ranks > 1 and config.ranks.sharded
    casts = model.matrices * compute_size if compute_size < FLOAT32 else 0

    share, is_offloaded = ranks if is_sharded else 1, is_sharded and config.ranks.cpu_offload
    parts = [] if is_offloaded else _state(config, weights, trained, share)
    if reference and not frozen and not is_offloaded:
        own = -(-model.parameters // share)
        parts.insert(1, Part("weights of the reference model, float32", FLOAT32 * own, PHASES))
    if is_sharded:
        parts += _gathered(model, weights, compute_size, frozen=frozen)
        if generates:
            parts.append(Part("all weights, while they are sampled from, float32", FLOAT32 * weights, ("sampling",)))
    parts += [
        Part("bfloat16 copies of the matrices", casts, _of_casts(own_engine, is_sharded)),
        Part(
            f"activations of {tokens:,} tokens{', checkpointed' if checkpointing else ''}",
            # Beside what is kept: the gradients of the layer at hand, and its recomputed activations.
            tokens * activations(model, compute_size, checkpointing)
            + tokens * layer_activations(model, compute_size, checkpointing) * (2 if checkpointing else 1),
            ("training",),
            estimate=True,
        ),
        Part(
            "logits" + ("" if frozen else ", the output embedding's gradient"),
            logprob_buffers(model, tokens, compute_size, frozen=frozen),
            ("training",),
        ),
    ]
    if own_engine:
        parts += _decoding(config, model, samples=samples, compute_size=compute_size, ranks=ranks)
    elif generates and config.rollout.vllm.server is None:
        parts += _vllm(config, model, compute_size)
    parts.append(Part("CUDA's context, rounding", CONTEXT, PHASES, estimate=True))
    return [part for part in parts if part.size]


def _of_casts(own_engine: bool, is_sharded: bool) -> tuple[Phase, ...]:
    """When autocast's copies are there: blocks in parts are gathered in bfloat16 already, and vLLM has its own."""
    made: dict[Phase, bool] = {"sampling": own_engine, "training": not is_sharded}
    return tuple(phase for phase, is_made in made.items() if is_made)


def _vllm(config: Config, model: Dimensions, compute_size: int) -> list[Part]:
    """What vLLM needs at least on each of the GPUs that it cuts the model over; it takes `rollout.vllm.memory_share` of
    a GPU."""
    vllm = config.rollout.vllm
    phases: tuple[Phase, ...] = ("sampling",) if vllm.sleep else PHASES
    cache = config.rollout.max_concurrent_tokens * key_value_size(model, compute_size)
    return [
        Part("vLLM's weights", -(-compute_size * model.parameters // vllm.tensor_parallel_size), phases),
        Part("vLLM's cache, at least", -(-cache // vllm.tensor_parallel_size), phases),
    ]


def _state(config: Config, weights: int, trained: int, share: int) -> list[Part]:
    """What training holds of each parameter, of which a GPU has one of `share` parts."""
    weights, trained = -(-weights // share), -(-trained // share)
    part = "" if share == 1 else f", a part of {share}"
    return [
        Part(f"weights{part}, float32", FLOAT32 * weights, PHASES),
        Part(f"gradients{part}, float32", FLOAT32 * trained, ("training", "update")),
        *_optimizer(config, trained, part),
    ]


def _gathered(model: Dimensions, weights: int, compute_size: int, *, frozen: bool) -> list[Part]:
    """What is whole for a while where each rank keeps a part: two decoder blocks, at hand and fetched ahead, with the
    gradient of one, as it is computed and in float32 as it is summed; and throughout a pass whatever lies in no block,
    embeddings above all, with the gradient of the input embedding where the output's is another."""
    block, outside = -(-model.matrices // model.layers), weights - model.matrices
    inputs = 0 if model.tied else model.vocabulary * model.hidden
    gradients = 0 if frozen else block * (compute_size + (FLOAT32 if compute_size < FLOAT32 else 0)) + FLOAT32 * inputs
    return [
        Part("two blocks' weights, gathered", 2 * block * compute_size, ("training",), estimate=True),
        Part("embeddings' weights, gathered, float32", FLOAT32 * outside, ("training",)),
        Part("their gradients before these are summed", gradients, ("training",), estimate=True),
    ]


def _optimizer(config: Config, trained: int, part: str) -> list[Part]:
    if config.train.optimizer == "adamw_8bit":
        # 256 numbers share a scale.
        return [Part("AdamW's two moments, 8-bit", 2 * trained + 2 * FLOAT32 * trained // 256, PHASES)]
    return [
        Part(f"AdamW's two moments{part}, float32", 2 * FLOAT32 * trained, PHASES),
        # torch's AdamW updates all tensors at once on a GPU: one more buffer the size of what is trained.
        Part(f"AdamW's buffer{part}", FLOAT32 * trained, ("update",)),
    ]


def _decoding(config: Config, model: Dimensions, *, samples: bool, compute_size: int, ranks: int) -> list[Part]:
    """What sampling adds."""
    rows, length = cache_rows(config, samples=samples, ranks=ranks)
    head_cast = model.vocabulary * model.hidden * compute_size if compute_size < FLOAT32 else 0
    return [
        Part(
            f"keys and values, {rows} rows of {length:,}",
            rows * length * key_value_size(model, compute_size),
            ("sampling",),
        ),
        Part(
            "a decoding step: logits, repeated keys and values",
            head_cast + decoding_buffers(model, rows, length, compute_size),
            ("sampling",),
            estimate=True,
        ),
    ]


def peak(parts: list[Part], phase: Phase) -> int:
    """What is held at once in this phase."""
    return sum(part.size for part in parts if phase in part.phases)


def longest_row(config: Config) -> int:
    """Tokens of the longest prompt with its completion or demonstration."""
    return config.data.max_prompt_length + max(config.rollout.max_completion_length, config.max_demonstration_length)


def cache_rows(config: Config, *, samples: bool, ranks: int = 1) -> tuple[int, int]:
    """Rows that a rank decodes at once and the positions of each, at most: floor(max_concurrent_tokens / length)."""
    length = config.data.max_prompt_length + max(
        config.rollout.max_completion_length if samples else 0,
        config.held_out_completion_length,
    )
    rows = config.rollout.max_concurrent_tokens // length
    held_out = _held_out(config)
    if held_out is None:
        return rows, length
    questions = -(-config.train.questions_per_step // ranks)
    sampled = questions * config.rollout.num_generations if samples else 0
    return min(rows, max(sampled, -(-held_out // ranks) * config.held_out_generations)), length


def _held_out(config: Config) -> int | None:
    """Problems of the largest set of an evaluation; None where only the problem sets themselves could say."""
    data = config.data
    if not data.held_out_sets or not config.train.eval_steps:
        return 0
    if all(each.path == "tiny" for each in data.held_out_sets):
        return min(config.tiny.eval_problems, data.max_eval_problems or config.tiny.eval_problems)
    return data.max_eval_problems


def micro_batch_tokens(config: Config, *, samples: bool, ranks: int = 1) -> int:
    """Tokens of the largest micro-batch, padding included: the budget, unless a row is longer or there are too few."""
    questions = -(-(config.train.questions_per_update or config.train.questions_per_step) // ranks)
    rows = questions * (1 + (config.rollout.num_generations if samples else 0))
    longest = longest_row(config)
    return min(max(config.train.tokens_per_micro_batch, longest), rows * longest)


def key_value_size(model: Dimensions, compute_size: int) -> int:
    """Of one position: 2 · layers · key/value heads · head size · c."""
    return 2 * model.layers * model.key_value_heads * model.head_size * compute_size


def decoding_buffers(model: Dimensions, rows: int, length: int, compute_size: int) -> int:
    """Rows · vocabulary logits and the sampler's float32 and int64 tensors of a part of them; where heads share keys,
    one layer's keys and values once more for each head, because masked attention takes them only so."""
    logits = rows * model.vocabulary
    repeated = 2 * rows * length * model.heads * model.head_size * compute_size
    sampler = 40 * min(logits, max(SAMPLER_PART, model.vocabulary))
    return logits * compute_size + sampler + (repeated if model.heads > model.key_value_heads else 0)


def layer_activations(model: Dimensions, compute_size: int, checkpointing: bool) -> int:
    """A token's, kept by one layer for its backward pass.

    With D hidden, I intermediate, Q and K the query's and key's widths. What goes into the two norms is float32: 8D.
    The inputs of the projections: in float32 one for query, key and value and one for gate and up, 8D; in bfloat16 a
    cast for each of the five, 10D. Attention keeps query and output, key and value: c(2Q + 2K), and its log-sum-exp: 4
    heads. The MLP keeps gate and up: 2cI. Within a checkpointed layer norms keep 8D + 8 more, and the MLP its
    activation and product: 2cI.
    """
    queries, keys = model.heads * model.head_size, model.key_value_heads * model.head_size
    projections = 8 * model.hidden if compute_size == FLOAT32 else 5 * compute_size * model.hidden
    attention = compute_size * (2 * queries + 2 * keys) + 4 * model.heads
    cheap = 8 * model.hidden + 2 * compute_size * model.intermediate
    return projections + attention + cheap * (2 if checkpointing else 1) + (8 if checkpointing else 0)


def activations(model: Dimensions, compute_size: int, checkpointing: bool) -> int:
    """A token's, kept by all layers and the final norm (4D; checkpointed 8D). A checkpointed layer keeps only 4D."""
    layer = FLOAT32 * model.hidden if checkpointing else layer_activations(model, compute_size, checkpointing=False)
    return model.layers * layer + (8 if checkpointing else 4) * model.hidden


def logprob_buffers(model: Dimensions, tokens: int, compute_size: int, *, frozen: bool = False) -> int:
    """Of the chunked log-probs' backward pass: log-probs and probabilities of a chunk; the log-probs of all `tokens`,
    where they are few enough to be kept; the output embedding's gradient in float32, 4VD, once more where a tied
    embedding has one too; in bfloat16 also its cast and a chunk's share of that gradient, 4VD. frozen: the output
    embedding has no gradient."""
    head, logits = model.vocabulary * model.hidden, FLOAT32 * tokens * model.vocabulary
    # A micro-batch of fewer tokens may keep them where the largest does not.
    buffers = 2 * min(LOGPROB_CHUNK, logits) + min(LOGPROBS_KEPT, logits)
    cast = compute_size * head if compute_size < FLOAT32 else 0
    return buffers + cast + (0 if frozen else cast + FLOAT32 * head * (2 if model.tied else 1))
