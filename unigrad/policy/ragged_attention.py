"""Attention over rows of unequal length that lie flat, one after another, in one row of the model's input.

All else in a model is computed token by token and needs no pad. Its attention, torch's own, gets the rows side by side,
filled up on the right, and what it finds goes back flat.

Shapes: P rows of the input, W tokens of the longest, N tokens of all; Q prompts that they go on from, K tokens of the
longest; H heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from unigrad.batch import Prefix, Ragged
from unigrad.policy import transformers_api
from unigrad.policy.transformers_api import Cache, DynamicLayer

KERNEL = "unigrad_ragged_sdpa"
"""torch's own attention, for inputs that are laid out so as well."""


@dataclass(slots=True)
class _Input:
    """What the kernel is told of a pass. seen: b[P or 1, 1, W, K + W]; None: of the row's own tokens all up to each."""

    ragged: Ragged
    seen: Tensor | None
    _mask: Tensor | None = None

    def mask(self, query: Tensor) -> Tensor | None:
        """What is added to the scores of such a query. One for all layers: torch makes it of a boolean in each of them,
        and keeps them all for the backward pass."""
        if self.seen is not None and (self._mask is None or self._mask.dtype != query.dtype):
            self._mask = torch.zeros(self.seen.shape, dtype=query.dtype, device=query.device)
            self._mask.masked_fill_(~self.seen, -torch.inf)
        return self._mask


def let_take_ragged_rows(model: PreTrainedModel) -> None:
    """From now on the model takes what `arguments` makes, if it computed attention with torch's own kernel."""
    if transformers_api.attention_kernel(model) == "sdpa" and transformers_api.takes_any_attention(model):
        model.set_attn_implementation(KERNEL)


def takes_ragged_rows(model: PreTrainedModel) -> bool:
    return transformers_api.attention_kernel(model) == KERNEL


def arguments(ragged: Ragged, seen: Tensor | None = None) -> dict[str, Any]:
    """Of a model's `forward`, beside ids and positions. Layers pass on what they do not know of to their kernel, and
    no mask is made where one is given; the kernel does not read it."""
    nothing = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=ragged.place_N.device)
    return {"ragged": _Input(ragged, seen), "attention_mask": nothing}


def seen_behind(prefix: Prefix, ragged: Ragged) -> Tensor:
    """Of rows behind prompts: which of K + W positions each token may attend to, its row's prompt and what of the row
    is up to it. b[P or 1, 1, W, K + W]"""
    longest, device = prefix.ragged.width, prefix.shared_P.device
    key_L, query_W = torch.arange(longest + ragged.width, device=device), torch.arange(ragged.width, device=device)
    own_WL = (key_L >= longest) & (key_L <= longest + query_W[:, None])
    return (own_WL | (key_L < prefix.shared_P[:, None, None]))[:, None]


class PromptCache(Cache):  # type: ignore[misc]  # transformers has no types
    """Keys and values of prompts, in the graph, and behind them those of the rows that go on from them."""

    def __init__(self, layers: int, prefix: Prefix) -> None:
        super().__init__(layers=[_PromptLayer(prefix) for _ in range(layers)])

    def begin_rows(self, ragged: Ragged) -> None:
        """The prompts are computed; next come the rows."""
        for layer in self.layers:
            layer.ragged = ragged


class _PromptLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's `keys` and `values` of the prompts, [Q, H, K, D] each."""

    def __init__(self, prefix: Prefix) -> None:
        super().__init__()
        self.ragged = prefix.ragged
        self._prompt_P = prefix.prompt_P
        self.is_initialized = False

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: object, **_options: object
    ) -> tuple[Tensor, Tensor]:
        """[1, H, N, D] each; of the prompts [Q, H, K, D], of the rows with their prompts' [P, H, K + W, D]."""
        keys, values = _side_by_side(key_states, self.ragged), _side_by_side(value_states, self.ragged)
        if not self.is_initialized:
            self.keys, self.values = keys, values
            self.is_initialized = True
            return keys, values
        behind = self.keys.index_select(0, self._prompt_P), self.values.index_select(0, self._prompt_P)
        return torch.cat((behind[0], keys), -2), torch.cat((behind[1], values), -2)

    def get_seq_length(self) -> int:
        return 0  # positions are given


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    ragged: _Input | None = None,
    **options: Any,
) -> tuple[Tensor, Any]:
    sdpa = transformers_api.sdpa()
    if ragged is None:
        return sdpa(module, query, key, value, mask, **options)
    rows, mask = ragged.ragged, ragged.mask(query)
    if key.shape[0] == 1 and key.shape[-2] == query.shape[-2]:  # no cache has them side by side
        key, value = _side_by_side(key, rows), _side_by_side(value, rows)
    found, weights = sdpa(module, _side_by_side(query, rows), key, value, mask, **options)
    return _one_after_another(found, rows), weights


transformers_api.register_attention(KERNEL, _attend)


def _side_by_side(flat_1HND: Tensor, ragged: Ragged) -> Tensor:
    if ragged.rows == 1:
        return flat_1HND
    found: Tensor = _Block.apply(flat_1HND, ragged.place_N, ragged.rows, ragged.width)  # type: ignore[no-untyped-call]
    return found


def _one_after_another(block_PWHD: Tensor, ragged: Ragged) -> Tensor:
    if ragged.rows == 1:
        return block_PWHD
    found: Tensor = _Flat.apply(block_PWHD, ragged.place_N)  # type: ignore[no-untyped-call]
    return found


def _spread(flat_NHD: Tensor, place_N: Tensor, rows: int, width: int) -> Tensor:
    """[rows, width, H, D], zero where no token is."""
    block = flat_NHD.new_zeros(rows * width, *flat_NHD.shape[1:])
    block[place_N] = flat_NHD
    return block.view(rows, width, *flat_NHD.shape[1:])


class _Block(torch.autograd.Function):
    """[1, H, N, D] as [P, H, W, D]: indexing whose gradient, which autograd would sum up, is a copy, for no two tokens
    are in one place."""

    @staticmethod
    def forward(ctx: Any, flat_1HND: Tensor, place_N: Tensor, rows: int, width: int) -> Tensor:
        ctx.save_for_backward(place_N)
        return _spread(flat_1HND[0].transpose(0, 1), place_N, rows, width).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, grad_PHWD: Tensor) -> tuple[Tensor, None, None, None]:
        (place_N,) = ctx.saved_tensors
        return grad_PHWD.transpose(1, 2).flatten(0, 1)[place_N].transpose(0, 1)[None], None, None, None


class _Flat(torch.autograd.Function):
    """[P, W, H, D] as [1, N, H, D]."""

    @staticmethod
    def forward(ctx: Any, block_PWHD: Tensor, place_N: Tensor) -> Tensor:
        ctx.save_for_backward(place_N)
        ctx.sides = block_PWHD.shape[:2]
        return block_PWHD.flatten(0, 1)[place_N][None]

    @staticmethod
    def backward(ctx: Any, grad_1NHD: Tensor) -> tuple[Tensor, None]:
        (place_N,) = ctx.saved_tensors
        return _spread(grad_1NHD[0], place_N, *ctx.sides), None
