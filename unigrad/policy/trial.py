"""What a model is tried on when it is loaded: that the policy's log-probs are those of its own logits, and causal.

Shapes: L tokens of a row, D hidden size, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from unigrad.batch import Sequences, micro_batch_of
from unigrad.errors import one_line
from unigrad.policy import transformers_api
from unigrad.policy.head import IDENTITY
from unigrad.policy.policy import Policy, TokenStatistics

_LOUDEST = 1000.0
"""Logits so large that no soft cap is the identity there, as each is near zero."""
_TOKENS = 8
"""Of a row, which may be all that a model's positions hold."""
_SHARED = 4
"""How many of them two rows share before they part."""


def check_logits(policy: Policy, name: str) -> None:
    """Raises ValueError, one line that begins with `name`, where the model's logits are not those of `Policy.forward`.

    The policy's `logit_transform` is certain afterwards.
    """
    model, kind = policy.model, policy.model.config.model_type
    if getattr(model.get_output_embeddings(), "weight", None) is None:
        raise ValueError(
            f"{name}: architecture {kind!r} has no output embedding, one matrix from hidden states to logits"
        )
    # None is the pad token of a model that goes by it.
    start, rows = 3 + policy.first_position, model.get_input_embeddings().weight.shape[0]
    ids = [index % rows for index in range(start, start + _TOKENS)]
    input_1L = torch.tensor([ids[:-1]], device=policy.device)
    with policy.autocast():
        _check_parts(model, input_1L, f"{name}: architecture {kind!r}")
        head_1LV, loud_1LV, found_1LV = _logits_and_head(model, input_1L)
    if torch.equal(found_1LV, loud_1LV):
        # Its config may name a scale of what enters the embedding, which is in the policy's pass (MiniCPM3).
        policy.logit_transform = IDENTITY
    transform, eps = policy.logit_transform, torch.finfo(policy.compute_dtype).eps
    expected_1LV = transform.apply_(loud_1LV)
    # Nothing done is equal to the bit; else each of some operations rounds.
    rounding = 0 if transform.is_identity else 8 * eps
    as_named = expected_1LV.shape == found_1LV.shape and torch.allclose(
        found_1LV, expected_1LV, rtol=rounding, atol=rounding
    )
    logits_LV = transform.apply_(head_1LV[0])
    found_L = _logprobs(policy, [(ids[:1], ids[1:])])[0]
    expected_L = logits_LV.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    difference = (found_L - expected_L).abs().max().item()
    # Two matrix products of other shapes round differently, in proportion to the logits.
    tolerance = 32 * eps * (1 + logits_LV.abs().max().item())
    if not (as_named and difference <= tolerance):
        raise ValueError(
            f"{name}: architecture {kind!r} transforms its hidden states or logits around the output embedding in a "
            f"way that is not supported (a scale and a soft cap that its config names are); log-probs differ by "
            f"{difference:.2g}"
        )


def check_causal(policy: Policy, name: str) -> None:
    """Raises ValueError, one line that begins with `name`, where a token's log-prob depends on later tokens."""
    rows = policy.model.get_input_embeddings().weight.shape[0]
    ids = [index % rows for index in range(3, 3 + _TOKENS)]
    one, other = _logprobs(policy, [(ids[:1], ids[1:]), (ids[:1], ids[1:_SHARED] + ids[: _TOKENS - _SHARED])])
    difference = (one - other)[: _SHARED - 1].abs().max().item()
    if not difference <= 16 * torch.finfo(policy.compute_dtype).eps * (1 + one.abs().max().item()):
        config = transformers_api.text_config(policy.model.config)
        change = "set is_decoder to true in its config.json" if hasattr(config, "is_decoder") else "it is not supported"
        raise ValueError(
            f"{name}: architecture {policy.model.config.model_type!r} lets a token attend to later ones, of which its "
            f"log-prob must not depend (they change one by {difference:.2g}): {change}"
        )


def _check_parts(model: PreTrainedModel, input_1L: Tensor, which: str) -> None:
    """Raises ValueError, one line that begins with `which`, where the model does not run, or what is trained, up to the
    output embedding's product, is not all that it has learned."""
    versions = [each._version for each in model.parameters()]
    try:
        learned = _learned_after(model, input_1L)
    # An architecture may fail at any line of its own: in evaluation mode, or where autocast splits its types.
    except Exception as error:
        raise ValueError(f"{which} does not run: {one_line(error)}") from error
    if [each._version for each in model.parameters()] != versions:
        raise ValueError(
            f"{which} changes its weights in a forward pass, so that others would be saved than are trained; where "
            "rescale_every does so (RWKV), set it to 0 in its config.json"
        )
    try:
        hidden_1LD = transformers_api.before_logits(model, input_ids=input_1L, use_cache=False)
        # Down to the first layer: Reformer's can be differentiated in training mode only.
        first = next(each for each in model.parameters() if each.requires_grad)
        torch.autograd.grad(hidden_1LD.sum(), first, allow_unused=True)
    except Exception as error:
        raise ValueError(f"{which} is not supported: {one_line(error)}") from error
    if learned:
        raise ValueError(
            f"{which} learns {learned[0]} between its output embedding's product and its logits, which would get no "
            "gradient here: it is not supported"
        )


@torch.no_grad()
def _logits_and_head(model: PreTrainedModel, input_1L: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the output embedding returned; the same, louder from token to token; and what the model made of that."""
    outputs: list[Tensor] = []

    def louder(_module: object, _args: object, out_1LV: Tensor) -> Tensor:
        loudest = out_1LV.abs().max().item() or 1.0
        gains_L = torch.logspace(0, 1, out_1LV.shape[1], base=_LOUDEST / loudest)
        loud_1LV = out_1LV * gains_L.to(out_1LV)[:, None]
        # Copies, because the model may transform the tensor in place.
        outputs.extend((out_1LV.clone(), loud_1LV.clone()))
        return loud_1LV

    hook = model.get_output_embeddings().register_forward_hook(louder)
    try:
        logits = model(input_ids=input_1L, use_cache=False).logits
    finally:
        hook.remove()
    head_1LV, loud_1LV = outputs
    return head_1LV.cpu().double(), loud_1LV.cpu().double(), logits.cpu().double()


def _learned_after(model: PreTrainedModel, input_1L: Tensor) -> list[str]:
    """Parameters on which the logits depend besides those of the output embedding's product and before it."""
    head = model.get_output_embeddings()
    trained = [(name, each) for name, each in model.named_parameters() if each.requires_grad]
    others = {name: each for name, each in trained if each is not head.weight and each is not head.bias}
    hook = head.register_forward_pre_hook(lambda _module, args: (args[0].detach(), *args[1:]))
    try:
        logits = model(input_ids=input_1L, use_cache=False).logits
    finally:
        hook.remove()
    gradients = torch.autograd.grad(logits.sum(), list(others.values()), allow_unused=True)
    return [name for name, gradient in zip(others, gradients, strict=True) if gradient is not None]


@torch.no_grad()
def _logprobs(policy: Policy, rows: list[tuple[list[int], list[int]]]) -> tuple[Tensor, ...]:
    """Of each row's completion tokens, f64[tokens]."""
    batch = micro_batch_of(Sequences.of_ids(rows, [1.0] * len(rows)), [range(len(rows))], "padded")
    statistics: TokenStatistics = policy(batch.to(policy.device, policy.dtype))
    lengths = [len(rows[index][1]) for index in batch.indices_P.tolist()]
    parts = torch.split(statistics.logp_M.cpu().double(), lengths)
    return tuple(parts[place] for place in batch.indices_P.argsort().tolist())
