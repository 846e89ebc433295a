"""A policy in parts over the ranks: FSDP2. Every rank keeps a part of each weight, of its gradient and of its moments,
and a block's weights are whole only while the block is computed.

All that is used of torch's `fully_shard` and of its distributed tensors stands here.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from unigrad.policy import transformers_api
from unigrad.world import World

if TYPE_CHECKING:
    from unigrad.policy.policy import Policy


def sharded(policy: Policy, world: World, *, cpu_offload: bool = False) -> Policy:
    """A policy with the same weights, each rank holding its part, whose gradients are sums over the ranks.

    From now on `policy` has its weights only within `whole()` of the other. Every rank must call, and compute with the
    result, equally often. cpu_offload: a part lies in main memory, and is on the device only while it is used.
    """
    parts = copy.deepcopy(policy)
    shard_(parts, world, cpu_offload=cpu_offload)
    parts.twin = Twin(parts, policy)
    return parts


def shard_(policy: Policy, world: World, *, cpu_offload: bool = False) -> None:
    """Part the policy's weights, in place. Its layouts lose `prefix`, whose keys reach from one pass over a block into
    another, past the gathering of its weights."""
    device = policy.device
    mesh = init_device_mesh(device.type, (world.size,))
    pinned = device.type == "cuda"
    offload = CPUOffloadPolicy(pin_memory=pinned) if cpu_offload else OffloadPolicy()
    # Inputs are autocast's to cast, as in one process; what is outside the blocks stays as it is, the output embedding
    # among it, which casts for itself.
    whole = MixedPrecisionPolicy(cast_forward_inputs=False)
    halved = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=policy.dtype, cast_forward_inputs=False)
    of_blocks = halved if policy.compute_dtype == torch.bfloat16 else whole
    # What is outside the blocks stays whole from a forward pass to its backward pass, if there is one.
    stays = any(parameter.requires_grad for parameter in policy.parameters())
    for module in (*transformers_api.blocks(policy.model), policy):
        parted: FSDPModule = fully_shard(
            module,
            mesh=mesh,
            mp_policy=whole if module is policy else of_blocks,
            offload_policy=offload,
            reshard_after_forward=not (module is policy and stays),
        )
        # Sums: every row's coefficient is over all rows of all ranks already.
        parted.set_gradient_divide_factor(1.0)
        parted.set_force_sum_reduction_for_comms(True)
    policy.sharded_on = device
    policy.costs = replace(policy.costs, layouts=policy.costs.layouts - {"prefix"})


class Twin:
    """A plain policy beside a sharded one, of the same weights; it has them only within `filled`."""

    def __init__(self, parts: Policy, plain: Policy) -> None:
        # Those that the optimizer moves: while a block is computed its module has others.
        self._parts = dict(parts.named_parameters())
        self._plain = plain
        self._device = plain.device
        self._empty()

    @contextmanager
    def filled(self) -> Iterator[Policy]:
        """Every rank must enter."""
        for name, parameter in self._plain.named_parameters():
            parameter.data = whole_tensor(self._parts[name].detach()).to(self._device)
        try:
            yield self._plain
        finally:
            self._empty()

    def _empty(self) -> None:
        for parameter in self._plain.parameters():
            parameter.data = parameter.data.new_empty(0)


def whole_tensor(tensor: Tensor) -> Tensor:
    """Of a tensor in parts all of it, on every rank, each of which must ask; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def in_parts_of(parameter: Tensor, whole: Tensor) -> Tensor:
    """A tensor of the parameter's shape, which all ranks hold, in the parts that the parameter is in."""
    if not isinstance(parameter, DTensor):
        return whole
    # Nothing is sent: each rank takes its part of its own.
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
